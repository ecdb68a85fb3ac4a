// What qadd and qmul share.
#pragma once

#include "ir/ops/lowered.h"

namespace aoq::ops {

inline constexpr std::array<AttributeDef, 24> kQBinaryAttributes = {
    {{"a_scale", AttributeKind::real, kRequired, ""},
     {"a_zero_point", AttributeKind::integer, "0", ""},
     {"b_scale", AttributeKind::real, kRequired, ""},
     {"b_zero_point", AttributeKind::integer, "0", ""},
     kOutDtype,
     kOutScale,
     kOutZeroPoint,
     {"activation", AttributeKind::string, "none", "none, relu or clamp"},
     kActivationMin,
     kActivationMax}};

InferResult infer_qbinary(const InferContext& c);

}  // namespace aoq::ops
