#include "runtime/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "runtime/cpu_count.h"

namespace aoq {
namespace {

// Runs `units` units and checks that each ran once.
void check_units_once(ThreadPool& pool, std::int64_t units, int workers) {
  std::vector<int> seen(static_cast<std::size_t>(units), 0);
  std::atomic<int> calls{0};
  pool.parallel_for(
      units,
      [&](int worker, std::int64_t begin, std::int64_t end) {
        calls.fetch_add(1);
        if (worker < 0 || worker >= pool.size()) std::abort();
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      },
      workers);
  for (int n : seen) CHECK(n == 1);
  CHECK(calls.load() <= std::max(1, std::min(workers, pool.size())));
}

TEST_CASE("every unit runs once for 1 to 7 threads") {
  for (int threads = 1; threads <= 7; ++threads) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (std::int64_t units : {0, 1, 2, 3, 6, 7, 8, 100}) {
      for (int workers : {1, 2, 3, 7, 1000}) check_units_once(pool, units, workers);
    }
  }
}

TEST_CASE("the split is even and in the order of the workers") {
  ThreadPool pool(3);
  std::vector<std::int64_t> begins(3, -1), ends(3, -1);
  pool.parallel_for(8, [&](int worker, std::int64_t begin, std::int64_t end) {
    begins[static_cast<std::size_t>(worker)] = begin;
    ends[static_cast<std::size_t>(worker)] = end;
  });
  CHECK(begins == std::vector<std::int64_t>{0, 3, 6});
  CHECK(ends == std::vector<std::int64_t>{3, 6, 8});
}

TEST_CASE("a call from inside a call does all its units on the calling thread") {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum{0};
  std::atomic<bool> stayed{true};
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(6, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::thread::id outer = std::this_thread::get_id();
        pool.parallel_for(5, [&](int worker, std::int64_t b, std::int64_t e) {
          if (worker != 0 || std::this_thread::get_id() != outer) stayed = false;
          sum.fetch_add(e - b);
        });
      }
    });
  }
  CHECK(stayed.load());
  CHECK(sum.load() == 200 * 6 * 5);
}

TEST_CASE("many callers at once") {
  ThreadPool pool(4);
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        std::vector<std::int64_t> parts(4, 0);
        pool.parallel_for(100, [&](int worker, std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) parts[static_cast<std::size_t>(worker)] += i;
        });
        sum.fetch_add(std::accumulate(parts.begin(), parts.end(), std::int64_t{0}));
      }
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK(sum.load() == 6 * 300 * 4950);
}

TEST_CASE("workers that went to sleep are woken") {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    check_units_once(pool, 30, 3);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

TEST_CASE("pools come and go without work") {
  for (int i = 0; i < 20; ++i) ThreadPool pool(1 + i % 7);
}

TEST_CASE("a host's executor runs the ranges") {
  struct Serial : HostExecutor {
    int concurrency() const override { return 4; }
    void run(int count, void (*task)(void*, int), void* context) override {
      for (int i = count - 1; i >= 0; --i) task(context, i);
      ++runs;
    }
    int runs = 0;
  } host;
  ThreadPool pool(host);
  CHECK(pool.size() == 4);
  check_units_once(pool, 10, 1000);
  CHECK(host.runs == 1);
  check_units_once(pool, 1, 1000);
  CHECK(host.runs == 1);
}

TEST_CASE("the default pool is one") {
  CHECK(ThreadPool::process_default() == ThreadPool::process_default());
  CHECK(ThreadPool::process_default()->size() == available_cpus());
}

class CgroupFolder {
 public:
  CgroupFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "aoq-cgroup-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~CgroupFolder() { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ + path).substr(0, (root_ + path).rfind('/')));
    std::ofstream(root_ + path) << text;
  }
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

TEST_CASE("cgroup quotas of both versions") {
  CHECK(cgroup_cpus("", "/nonexistent") == 0);
  CHECK(cgroup_cpus("0::/\n", "/nonexistent") == 0);
  CgroupFolder folder;
  folder.write("/cpu.max", "max 100000\n");
  CHECK(cgroup_cpus("0::/\n", folder.root()) == 0);
  folder.write("/a/cpu.max", "350000 100000\n");
  folder.write("/a/b/cpu.max", "max 100000\n");
  CHECK(cgroup_cpus("0::/a/b\n", folder.root()) == 3);
  folder.write("/a/b/cpu.max", "50000 100000\n");
  CHECK(cgroup_cpus("0::/a/b\n", folder.root()) == 1);
  CHECK(cgroup_cpus("0::/../../x\n", folder.root()) == 0);
  folder.write("/cpu/job/cpu.cfs_quota_us", "200000\n");
  folder.write("/cpu/job/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_cpus("4:cpu,cpuacct:/job\n3:cpuset:/job\n", folder.root()) == 2);
  folder.write("/cpu/job/cpu.cfs_quota_us", "-1\n");
  CHECK(cgroup_cpus("4:cpu,cpuacct:/job\n", folder.root()) == 0);
  CHECK(cgroup_cpus("nonsense\n::\n", folder.root()) == 0);
}

}  // namespace
}  // namespace aoq
