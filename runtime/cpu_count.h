// How many CPUs this process may use.
#pragma once

#include <string>

namespace aoq {

// The affinity mask, narrowed by the CPU quota of the control groups (v1 and v2) this process is in, rounded down; at
// least 1.
int available_cpus();

// The quota alone, in whole CPUs; 0: none. `proc_cgroup` is the text of /proc/self/cgroup, `root` is /sys/fs/cgroup.
int cgroup_cpus(const std::string& proc_cgroup, const std::string& root);

}  // namespace aoq
