// Precompiled for the runtime: building it spends its time in these headers.
#include <algorithm>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "ir/graph.h"
