// Rounding every operation to a tensor's own type, as eager PyTorch does on a CPU: computed in fp32, rounded once.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ir/dtype.h"
#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

class Rounding {
 public:
  explicit Rounding(DType dtype) : info_(dtype == DType::f32 ? nullptr : &dtype_info(dtype)) {}

  float operator()(float value) const {
    if (info_ == nullptr) return value;
    std::byte code[8];
    info_->from_float({&value, 1}, code, 0);
    float rounded;
    info_->to_float(code, 0, {&rounded, 1});
    return rounded;
  }

 private:
  const DTypeInfo* info_;
};

// The elements as fp32; invalid_argument unless the tensor is f32, bf16 or f16.
inline Result<std::vector<float>> to_floats(const TensorView& x) {
  if (x.dtype != DType::f32 && x.dtype != DType::bf16 && x.dtype != DType::f16) {
    return error(Code::invalid_argument, "a float tensor is needed, found {}", dtype_name(x.dtype));
  }
  std::vector<float> values(static_cast<std::size_t>(x.element_count()));
  dtype_info(x.dtype).to_float(x.data, 0, values);
  return values;
}

}  // namespace aoq
