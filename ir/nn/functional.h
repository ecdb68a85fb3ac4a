// Functions on traced values: nn::F::... are torch.nn.functional's, nn::... are torch's own.
//
// The two spellings of one function mean the same, but FX's fusion patterns tell them apart (pytorch-semantics B.4).
#pragma once

#include <string>
#include <vector>

#include "ir/nn/proxy.h"

namespace aoq::nn {

// torch.*
Proxy relu(const Proxy& x);
Proxy sigmoid(const Proxy& x);
Proxy tanh(const Proxy& x);
Proxy exp(const Proxy& x);
Proxy log(const Proxy& x);
Proxy sqrt(const Proxy& x);
Proxy rsqrt(const Proxy& x);
Proxy sin(const Proxy& x);
Proxy cos(const Proxy& x);
Proxy abs(const Proxy& x);
Proxy clamp(const Proxy& x, double min, double max);
Proxy softmax(const Proxy& x, std::int64_t dim);
Proxy flatten(const Proxy& x, std::int64_t start = 0, std::int64_t end = -1);
Proxy cat(const Proxies& xs, std::int64_t dim = 0);
Proxy stack(const Proxies& xs, std::int64_t dim = 0);
Proxies chunk(const Proxy& x, std::int64_t parts, std::int64_t dim = 0);
Proxy matmul(const Proxy& a, const Proxy& b);
Proxy bmm(const Proxy& a, const Proxy& b);
Proxy add(const Proxy& a, const Proxy& b);
Proxy mul(const Proxy& a, const Proxy& b);
Proxy mean(const Proxy& x, const std::vector<std::int64_t>& dims, bool keepdim = false);
Proxy where(const Proxy& condition, const Proxy& a, const Proxy& b);

// Strides and the like: one number for all spatial dimensions, or one for each.
using Sizes = std::vector<std::int64_t>;

struct ConvOptions {
  Sizes stride = {1}, padding = {0}, dilation = {1};
  std::int64_t groups = 1;
  Sizes output_padding = {0};  // transposed convolutions
};

struct PoolOptions {
  Sizes stride = {};  // none: the kernel's
  Sizes padding = {0};
  Sizes dilation = {1};
  bool ceil_mode = false;
  bool count_include_pad = true;  // averages
};

namespace F {

Proxy relu(const Proxy& x);
Proxy relu6(const Proxy& x);
Proxy sigmoid(const Proxy& x);
Proxy tanh(const Proxy& x);
Proxy hardswish(const Proxy& x);
Proxy hardsigmoid(const Proxy& x);
Proxy hardtanh(const Proxy& x, double min = -1, double max = 1);
Proxy leaky_relu(const Proxy& x, double negative_slope = 0.01);
Proxy elu(const Proxy& x, double alpha = 1);
Proxy gelu(const Proxy& x, const std::string& approximate = "none");
Proxy silu(const Proxy& x);
Proxy mish(const Proxy& x);
Proxy softplus(const Proxy& x);
Proxy softmax(const Proxy& x, std::int64_t dim);
Proxy log_softmax(const Proxy& x, std::int64_t dim);
Proxy prelu(const Proxy& x, const Proxy& weight);
Proxy dropout(const Proxy& x);  // in evaluation: x
Proxy linear(const Proxy& x, const Proxy& weight, const Proxy& bias = {});
// Convolutions by the rank of x: [N, C, spatial...], 1 to 3 spatial dimensions.
Proxy conv(const Proxy& x, const Proxy& weight, const Proxy& bias = {}, const ConvOptions& options = {});
Proxy conv_transpose(const Proxy& x, const Proxy& weight, const Proxy& bias = {}, const ConvOptions& options = {});
Proxy max_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options = {});
Proxy avg_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options = {});
// `output` is one size for all spatial dimensions or one for each; the input's must be numbers unless it is 1.
Proxy adaptive_avg_pool(const Proxy& x, const Sizes& output);
Proxy batch_norm(const Proxy& x, const Proxy& mean, const Proxy& variance, const Proxy& weight, const Proxy& bias,
                 double eps = 1e-5);
Proxy layer_norm(const Proxy& x, std::size_t normalized_rank, const Proxy& weight = {}, const Proxy& bias = {},
                 double eps = 1e-5);
Proxy group_norm(const Proxy& x, std::int64_t groups, const Proxy& weight = {}, const Proxy& bias = {},
                 double eps = 1e-5);
Proxy instance_norm(const Proxy& x, const Proxy& weight = {}, const Proxy& bias = {}, double eps = 1e-5);
Proxy embedding(const Proxy& indices, const Proxy& weight);
// Bags of indices [B, L], or indices [n] that begin at `offsets`; mode sum, mean or max.
Proxy embedding_bag(const Proxy& indices, const Proxy& weight, const Proxy& offsets = {},
                    const std::string& mode = "mean");
// By a factor for all spatial dimensions: "nearest" or "bilinear".
Proxy interpolate(const Proxy& x, double scale_factor, const std::string& mode = "nearest");

}  // namespace F
}  // namespace aoq::nn
