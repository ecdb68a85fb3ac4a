// Precompiled for the commands: building them spends its time in these headers.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tools/command.h"
#include "tools/runner.h"
