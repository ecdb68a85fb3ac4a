// The catch boundary of public entry points: exceptions of the standard library become errors.
#pragma once

#include <exception>
#include <new>
#include <utility>

#include "ir/error_id.h"
#include "ir/status.h"

namespace aoq {

// Calls `body`, which returns a Status or a Result.
template <class F>
auto guarded(F&& body) noexcept -> decltype(body()) {
  try {
    return std::forward<F>(body)();
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory();
  } catch (const std::exception& e) {
    return error(Code::internal, "unexpected exception: {}", e.what());
  } catch (...) {
    return error(Code::internal, "unexpected exception");
  }
}

}  // namespace aoq
