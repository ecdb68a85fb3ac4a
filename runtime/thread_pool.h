// The one thread pool: splits the units of a step over a few threads.
//
// The caller takes part as worker 0. In steady state (calls within the spin window of each other) parallel_for neither
// allocates nor locks nor makes a system call. A pool that is busy costs one failed compare-and-swap; the caller then
// does all units itself, so nested and concurrent calls never wait for each other. Results must not depend on the
// split.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>

namespace aoq {

// A host's own threads. run() calls task(context, i) once for every i in [0, count), in any order, on any threads, and
// returns when all are done. Called from many threads at once.
class HostExecutor {
 public:
  virtual ~HostExecutor() = default;
  virtual int concurrency() const = 0;
  virtual void run(int count, void (*task)(void* context, int index), void* context) = 0;
};

class ThreadPool {
 public:
  // Must not throw. `worker` is in [0, size()) and differs between the calls that run at the same time.
  using Function = void (*)(void* context, int worker, std::int64_t begin, std::int64_t end);
  static constexpr int kMaxThreads = 256;

  // `threads` includes the caller's; 0: available_cpus(). Threads that the system refuses are done without.
  explicit ThreadPool(int threads);
  // Runs on the host's threads; `host` outlives the pool.
  explicit ThreadPool(HostExecutor& host);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  // No call may be under way.
  ~ThreadPool();

  // The pool of this process, with available_cpus() threads, made on first use. Owners: whoever asked and the process.
  static std::shared_ptr<ThreadPool> process_default();

  int size() const { return size_; }

  // Splits [0, units) evenly into at most min(size(), workers) ranges, which follow each other in the order of the
  // workers, and returns when all are done. With a host's executor concurrent calls share the host's threads.
  void parallel_for(std::int64_t units, Function function, void* context,
                    int workers = std::numeric_limits<int>::max());

  // The same for a callable (int worker, std::int64_t begin, std::int64_t end).
  template <class F>
  void parallel_for(std::int64_t units, F&& body, int workers = std::numeric_limits<int>::max()) {
    using Body = std::remove_reference_t<F>;
    parallel_for(
        units,
        [](void* context, int worker, std::int64_t begin, std::int64_t end) {
          (*static_cast<Body*>(context))(worker, begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)), workers);
  }

 private:
  struct Threads;

  int size_ = 1;
  HostExecutor* host_ = nullptr;
  std::unique_ptr<Threads> threads_;
};

}  // namespace aoq
