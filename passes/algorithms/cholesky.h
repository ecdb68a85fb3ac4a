// Cholesky factors of symmetric matrices in f32, row after row in one vector.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/status.h"

namespace aoq {

// The lower factor L of A = L L^T, in place; only the half on and below the diagonal is read and written. invalid_data
// with the row and the pivot where A is not positive definite.
Status cholesky_lower(std::span<float> matrix, std::int64_t size);

// (L L^T)^-1 from a lower factor: the half on and below the diagonal, zeros above.
std::vector<float> inverse_of_cholesky(std::span<const float> lower, std::int64_t size);

}  // namespace aoq
