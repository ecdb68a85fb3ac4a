// Precompiled for the rows: building them spends its time in these headers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "backends/cpu/rows/row.h"
