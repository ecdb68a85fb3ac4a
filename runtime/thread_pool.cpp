// Each worker has a mailbox on a cache line of its own:
//
//   idle --owner: job--> work --worker: taken--> running --worker: done--> idle
//   work --owner: taken back--> idle
//   idle --worker, after its spin window: sleep--> asleep --owner: job--> work
//
// The owner of a job holds `busy`. It writes the job, posts to the workers that take part (waking only those asleep),
// does its own share, then the shares that no worker has taken yet, and waits until `pending` is 0. So a worker that
// the system does not let run holds nobody up. The job is stable meanwhile: a worker reads it only between taking it
// and its own decrement.
#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/cpu_count.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace aoq {
namespace {

enum Mail : std::uint32_t { kIdle, kWork, kRunning, kAsleep, kStop };

constexpr std::uint32_t kOwnerAsleep = std::uint32_t{1} << 31;
constexpr std::chrono::microseconds kSpinWindow{200};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True when `condition` came true within the window. The clock is read through the vDSO: no system call.
template <class F>
bool spin_until(bool spins, const F& condition) {
  if (condition()) return true;
  if (!spins) return false;
  const auto end = std::chrono::steady_clock::now() + kSpinWindow;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

struct Job {
  ThreadPool::Function function = nullptr;
  void* context = nullptr;
  std::int64_t units = 0;
  int workers = 1;

  void run(int worker) const {
    const std::int64_t each = units / workers;
    const std::int64_t rest = units % workers;
    const std::int64_t begin = worker * each + std::min<std::int64_t>(worker, rest);
    function(context, worker, begin, begin + each + (worker < rest ? 1 : 0));
  }
};

struct alignas(64) Mailbox {
  std::atomic<std::uint32_t> state{kIdle};
};

}  // namespace

struct ThreadPool::Threads {
  explicit Threads(int count) : mailboxes(static_cast<std::size_t>(count)) {}

  void loop(std::size_t index);
  void post(std::size_t index, Mail mail);
  void run_what_is_left(int workers);
  void wait_for_workers();

  alignas(64) std::atomic<bool> busy{false};
  alignas(64) std::atomic<std::uint32_t> pending{0};
  alignas(64) Job job;
  bool spins = false;
  std::vector<Mailbox> mailboxes;  // of worker 1, 2, ...
  std::vector<std::thread> threads;
};

void ThreadPool::Threads::loop(std::size_t index) {
  std::atomic<std::uint32_t>& state = mailboxes[index].state;
  while (true) {
    if (!spin_until(spins, [&] { return state.load(std::memory_order_acquire) != kIdle; })) {
      std::uint32_t expected = kIdle;
      if (state.compare_exchange_strong(expected, kAsleep, std::memory_order_acq_rel)) {
        state.wait(kAsleep, std::memory_order_acquire);
      }
      continue;
    }
    std::uint32_t expected = kWork;
    if (!state.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel)) {
      if (expected == kStop) return;
      continue;
    }
    job.run(static_cast<int>(index) + 1);
    state.store(kIdle, std::memory_order_relaxed);
    if (pending.fetch_sub(1, std::memory_order_acq_rel) == (kOwnerAsleep | 1)) pending.notify_one();
  }
}

void ThreadPool::Threads::post(std::size_t index, Mail mail) {
  std::atomic<std::uint32_t>& state = mailboxes[index].state;
  if (state.exchange(mail, std::memory_order_acq_rel) == kAsleep) state.notify_one();
}

void ThreadPool::Threads::run_what_is_left(int workers) {
  for (int worker = 1; worker < workers; ++worker) {
    std::uint32_t expected = kWork;
    std::atomic<std::uint32_t>& state = mailboxes[static_cast<std::size_t>(worker - 1)].state;
    if (!state.compare_exchange_strong(expected, kIdle, std::memory_order_acq_rel)) continue;
    pending.fetch_sub(1, std::memory_order_relaxed);
    job.run(worker);
  }
}

void ThreadPool::Threads::wait_for_workers() {
  auto done = [&] { return (pending.load(std::memory_order_acquire) & ~kOwnerAsleep) == 0; };
  if (spin_until(spins, done)) return;
  std::uint32_t seen = pending.fetch_or(kOwnerAsleep, std::memory_order_acq_rel) | kOwnerAsleep;
  while ((seen & ~kOwnerAsleep) != 0) {
    pending.wait(seen, std::memory_order_acquire);
    seen = pending.load(std::memory_order_acquire);
  }
}

ThreadPool::ThreadPool(int threads) {
  const int cpus = available_cpus();
  const int wanted = std::clamp(threads > 0 ? threads : cpus, 1, kMaxThreads);
  threads_ = std::make_unique<Threads>(wanted - 1);
  // Spinning threads without a core of their own would keep the working ones from theirs.
  threads_->spins = wanted <= cpus;
  for (int i = 0; i < wanted - 1; ++i) {
    try {
      threads_->threads.emplace_back([this, i] { threads_->loop(static_cast<std::size_t>(i)); });
    } catch (const std::system_error&) {
      break;
    }
  }
  size_ = static_cast<int>(threads_->threads.size()) + 1;
}

ThreadPool::ThreadPool(HostExecutor& host) : size_(std::clamp(host.concurrency(), 1, kMaxThreads)), host_(&host) {}

ThreadPool::~ThreadPool() {
  if (!threads_) return;
  for (std::size_t i = 0; i < threads_->threads.size(); ++i) threads_->post(i, kStop);
  for (std::thread& t : threads_->threads) t.join();
}

std::shared_ptr<ThreadPool> ThreadPool::process_default() {
  static const auto pool = std::make_shared<ThreadPool>(0);
  return pool;
}

void ThreadPool::parallel_for(std::int64_t units, Function function, void* context, int workers) {
  if (units <= 0) return;
  const int count = static_cast<int>(std::min<std::int64_t>(units, std::min(size_, workers)));
  if (count <= 1) return function(context, 0, 0, units);
  const Job job{function, context, units, count};
  if (host_ != nullptr) {
    return host_->run(
        count, [](void* j, int worker) { static_cast<const Job*>(j)->run(worker); }, const_cast<Job*>(&job));
  }
  Threads& t = *threads_;
  bool expected = false;
  if (!t.busy.compare_exchange_strong(expected, true, std::memory_order_acquire)) return function(context, 0, 0, units);
  t.job = job;
  t.pending.store(static_cast<std::uint32_t>(count - 1), std::memory_order_relaxed);
  for (int i = 0; i < count - 1; ++i) t.post(static_cast<std::size_t>(i), kWork);
  job.run(0);
  t.run_what_is_left(count);
  t.wait_for_workers();
  t.busy.store(false, std::memory_order_release);
}

}  // namespace aoq
