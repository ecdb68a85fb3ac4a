#include "runtime/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace aoq {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

int affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// 0: no limit. Half a CPU is still one thread.
int whole_cpus(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  return std::clamp(static_cast<int>(quota / period), 1, 1 << 20);
}

// v2: cpu.max is "max 100000" or "150000 100000". v1: two files, quota -1 for none.
int limit_in(const std::string& folder) {
  const std::string v2 = read_file(folder + "/cpu.max");
  if (!v2.empty()) {
    char* rest = nullptr;
    const double quota = std::strtod(v2.c_str(), &rest);
    return rest == v2.c_str() ? 0 : whole_cpus(quota, std::strtod(rest, nullptr));
  }
  const std::string quota = read_file(folder + "/cpu.cfs_quota_us");
  if (quota.empty()) return 0;
  return whole_cpus(std::strtod(quota.c_str(), nullptr),
                    std::strtod(read_file(folder + "/cpu.cfs_period_us").c_str(), nullptr));
}

// The tightest limit of a group and the groups around it.
int limit_along(const std::string& root, std::string path) {
  int limit = 0;
  while (true) {
    if (int here = limit_in(root + path); here > 0) limit = limit > 0 ? std::min(limit, here) : here;
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return limit;
    path.resize(slash);
  }
}

bool has_cpu_controller(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

int cgroup_cpus(const std::string& proc_cgroup, const std::string& root) {
  int limit = 0;
  std::istringstream lines(proc_cgroup);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy-id:controllers:path; v2 has id 0 and no controllers.
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/" || path.find("/..") != std::string::npos) path.clear();
    if (!controllers.empty() && !has_cpu_controller(controllers)) continue;
    const std::string base = controllers.empty() ? root : root + "/cpu";
    if (int here = limit_along(base, path); here > 0) limit = limit > 0 ? std::min(limit, here) : here;
  }
  return limit;
}

int available_cpus() {
  const int cpus = affinity_cpus();
  const int quota = cgroup_cpus(read_file("/proc/self/cgroup"), "/sys/fs/cgroup");
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

}  // namespace aoq
