#include "ir/status.h"

#include <cstdio>
#include <cstdlib>

namespace aoq {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::invalid_model:
      return "invalid_model";
    case Code::invalid_data:
      return "invalid_data";
    case Code::not_found:
      return "not_found";
    case Code::unsupported:
      return "unsupported";
    case Code::resource_limit:
      return "resource_limit";
    case Code::io_error:
      return "io_error";
    case Code::check_failed:
      return "check_failed";
    case Code::internal:
      return "internal";
    case Code::interrupted:
      return "interrupted";
  }
  return "unknown";
}

Status::Status(Code code, std::string message) {
  // The general numbers are the codes'.
  if (code != Code::ok) state_ = make_state({code, ErrorId{static_cast<std::uint16_t>(code)}, std::move(message)});
}

Status::Status(const Status& other) : state_(other.state_ ? make_state(*other.state_) : nullptr) {
  if (state_) state_->is_static = false;
}

Status& Status::operator=(const Status& other) {
  if (this != &other) *this = Status(other);
  return *this;
}

const std::string& Status::message() const {
  static const std::string empty;
  return state_ ? state_->message : empty;
}

Status Status::with_context(std::string_view context) && {
  if (!state_) return std::move(*this);
  std::string message;
  message.reserve(context.size() + 2 + state_->message.size());
  message.append(context).append(": ").append(state_->message);
  if (state_->is_static) {
    *this = Status(*this);  // a copy that may be changed
  }
  state_->message = std::move(message);
  return std::move(*this);
}

namespace internal {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: AOQ_CHECK(%s) failed: this is a bug in aoq\n", file, line, condition);
  std::abort();
}

void value_of_error(const Status& status) {
  std::fprintf(stderr, "the value of a Result was read, which is an error: %s\n", status.message().c_str());
  std::abort();
}

}  // namespace internal
}  // namespace aoq
