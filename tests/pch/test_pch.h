// Precompiled for the larger test programs: building them spends its time in these headers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "ir/graph.h"
