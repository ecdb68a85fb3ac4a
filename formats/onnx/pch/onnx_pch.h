// Precompiled for the importer's handlers: building them spends its time in these headers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "formats/onnx/context.h"
