// Precompiled for the passes: building them spends its time in these headers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "passes/rewrite/common.h"
