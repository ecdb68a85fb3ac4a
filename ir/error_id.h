// The numbers of errors: what `aoq explain AOQ-0301` explains. Only files that give an error its own number include
// this.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "ir/status.h"

namespace aoq {

enum class ErrorId : std::uint16_t {
  none = 0,
#define AOQ_ERROR(number, id, code, title, cause, remedy) id = number,
#include "ir/errors.def"
#undef AOQ_ERROR
};

struct ErrorInfo {
  ErrorId id = ErrorId::none;
  Code code = Code::ok;
  std::string_view name;    // "aoq_damaged"
  std::string_view title;   // a line
  std::string_view cause;   // a sentence or two
  std::string_view remedy;  // what to do
};

// Every error, by number.
std::span<const ErrorInfo> all_errors();
// Null when there is none. Takes "AOQ-0301", "aoq-301", "301" and "aoq_damaged".
const ErrorInfo* find_error(std::string_view text);
const ErrorInfo& error_info(ErrorId id);
// "AOQ-0301"
std::string error_number(ErrorId id);

}  // namespace aoq
