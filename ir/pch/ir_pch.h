// Precompiled for the many small files of ir/ops: building them spends its time in these headers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "ir/graph.h"
