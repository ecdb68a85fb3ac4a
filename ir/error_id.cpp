#include "ir/error_id.h"

#include <fmt/format.h>

#include <charconv>

namespace aoq {
namespace {

constexpr ErrorInfo kTable[] = {
#define AOQ_ERROR(number, id, code, title, cause, remedy) {ErrorId::id, Code::code, #id, title, cause, remedy},
#include "ir/errors.def"
#undef AOQ_ERROR
};

// Status counts on it: a code's own number is its value.
static_assert(static_cast<int>(ErrorId::usage) == static_cast<int>(Code::invalid_argument) &&
              static_cast<int>(ErrorId::interrupted) == static_cast<int>(Code::interrupted));

}  // namespace

std::span<const ErrorInfo> all_errors() {
  return kTable;
}

const ErrorInfo& error_info(ErrorId id) {
  for (const ErrorInfo& e : kTable) {
    if (e.id == id) return e;
  }
  return error_info(ErrorId::internal);
}

const ErrorInfo* find_error(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with("AOQ-") || digits.starts_with("aoq-")) digits.remove_prefix(4);
  unsigned number = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool is_number = problem == std::errc() && end == digits.data() + digits.size();
  for (const ErrorInfo& e : kTable) {
    if (is_number ? static_cast<unsigned>(e.id) == number : e.name == text) return &e;
  }
  return nullptr;
}

std::string error_number(ErrorId id) {
  return fmt::format("AOQ-{:04}", static_cast<unsigned>(id));
}

Status::Status(ErrorId id, std::string message) {
  state_ = make_state({error_info(id).code, id, std::move(message)});
}

Status Status::out_of_memory() noexcept {
  // Short enough to lie inside the string object.
  static State state{Code::resource_limit, ErrorId::out_of_memory, "out of memory", true};
  Status status;
  status.state_.reset(&state);
  return status;
}

}  // namespace aoq
