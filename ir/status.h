// Status and Result<T>: how everything outside our own control is reported.
//
// A Status is one pointer, null when ok. An error carries a code, a message and the context that outer layers put in
// front of it: "load model.aoq: node %12 linear: weight has 3 scales for 4 channels".
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace aoq {

// The kinds of failure. The command line maps them to exit codes; docs list them.
enum class Code : unsigned char {
  ok,
  invalid_argument,  // the caller asked for something that makes no sense
  invalid_model,     // a model file or graph breaks a rule of its format or of the IR
  invalid_data,      // tensors handed in do not fit the model (shape, dtype, NaN, missing input)
  not_found,         // a file, name, pass or op that does not exist
  unsupported,       // understood, but not built: op, type, opset, device
  resource_limit,    // a limit of the host, of the options or of the machine was reached
  io_error,          // the operating system refused
  check_failed,      // a comparison or threshold asked for did not hold
  internal,          // a bug of ours
  interrupted,       // the host or the user asked to stop
};

// The stable name of a code, such as "invalid_model".
std::string_view code_name(Code code);

// The number of an error, finer than its kind: ir/error_id.h and ir/errors.def.
enum class ErrorId : std::uint16_t;

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message);
  // With the code that ir/errors.def gives the number.
  Status(ErrorId id, std::string message);
  // Makes no allocation: for where memory just ended.
  static Status out_of_memory() noexcept;

  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  Status(const Status& other);
  Status& operator=(const Status& other);
  ~Status() = default;

  bool ok() const { return state_ == nullptr; }
  Code code() const { return state_ == nullptr ? Code::ok : state_->code; }
  // Zero when ok; the general number of the code where the error has none of its own.
  ErrorId id() const { return state_ == nullptr ? ErrorId{} : state_->id; }
  // Empty when ok.
  const std::string& message() const;
  // Puts "context: " in front of the message; does nothing when ok.
  Status with_context(std::string_view context) &&;

 private:
  struct State {
    Code code;
    ErrorId id;
    std::string message;
    bool is_static = false;  // not on the heap
  };
  struct Delete {
    void operator()(State* state) const {
      if (!state->is_static) delete state;
    }
  };
  using StatePointer = std::unique_ptr<State, Delete>;
  static StatePointer make_state(State state) { return StatePointer(new State(std::move(state))); }
  StatePointer state_;
};

template <typename... Args>
Status error(ErrorId id, fmt::format_string<Args...> format, Args&&... args) {
  return Status(id, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

namespace internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
[[noreturn]] void value_of_error(const Status& status);
}  // namespace internal

// A value or an error. Reading the value of an error aborts: check ok() or use AOQ_ASSIGN.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T result) : value_(std::move(result)) {}         // NOLINT: implicit by design
  Result(Status problem) : status_(std::move(problem)) {  // NOLINT: implicit by design
    if (status_.ok()) status_ = Status(Code::internal, "Result made from an ok Status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status status() && { return std::move(status_); }
  T& value() & { return **this; }
  const T& value() const& { return **this; }
  T value() && { return std::move(**this); }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }
  T& operator*() & {
    if (!value_) internal::value_of_error(status_);
    return *value_;
  }
  const T& operator*() const& {
    if (!value_) internal::value_of_error(status_);
    return *value_;
  }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace aoq

// Aborts on our own mistakes only; data from outside never reaches one.
#define AOQ_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::aoq::internal::check_failed(#condition, __FILE__, __LINE__))

#define AOQ_CONCAT_INNER(a, b) a##b
#define AOQ_CONCAT(a, b) AOQ_CONCAT_INNER(a, b)

// Returns the error of an expression that yields a Status.
#define AOQ_TRY(expression) AOQ_TRY_INNER(AOQ_CONCAT(aoq_status_, __COUNTER__), expression)
#define AOQ_TRY_INNER(status, expression)                                 \
  do {                                                                    \
    if (::aoq::Status status = (expression); !status.ok()) return status; \
  } while (false)

// AOQ_ASSIGN(auto x, make_x()): declares x from a Result or returns its error.
#define AOQ_ASSIGN(declaration, expression) AOQ_ASSIGN_INNER(AOQ_CONCAT(aoq_result_, __LINE__), declaration, expression)
#define AOQ_ASSIGN_INNER(result, declaration, expression) \
  auto result = (expression);                             \
  if (!result.ok()) return std::move(result).status();    \
  declaration = std::move(result).value()
