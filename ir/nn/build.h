// How functions, proxies and modules emit nodes. Included by ir/nn only.
#pragma once

#include "ir/nn/functional.h"
#include "ir/nn/tracer.h"

namespace aoq::nn::build {

// A unit of one node.
Proxy unary(std::string_view callee, const Proxy& x, Op op, Attributes attributes = {});
Proxy binary(std::string_view callee, const Proxy& a, const Proxy& b, Op op);
Proxy with_scalar(std::string_view callee, const Proxy& a, double b, Op op);

// A unit for the whole and one for each part that is taken.
Proxies chunk(std::string_view callee, const Proxy& x, std::int64_t parts, std::int64_t dim);

// What follows emits without opening a unit.
// x under another shape; a dimension of -1 is what is left over.
Proxy reshape(const Proxy& x, Shape shape);
Proxy permute(const Proxy& x, std::vector<std::int64_t> perm);
Proxy transpose(const Proxy& x, std::int64_t a, std::int64_t b);
Proxy flatten(const Proxy& x, std::int64_t start, std::int64_t end);
Proxy slice(const Proxy& x, std::int64_t dim, const Dim& start, const Dim& end, std::int64_t step = 1);
// x as a node of its own: dropout in evaluation, stubs, identity.
Proxy same(const Proxy& x);
Proxy select(const Proxy& x, std::int64_t dim, std::int64_t index);
Proxy clamp(const Proxy& x, double min, double max);
Proxy softmax(const Proxy& x, std::int64_t dim, Op op = Op::softmax);
Proxy linear(const Proxy& x, const Proxy& weight, const Proxy& bias);
Proxy conv(Op op, const Proxy& x, const Proxy& weight, const Proxy& bias, const ConvOptions& options);
Proxy max_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options);
Proxy avg_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options);
Proxy adaptive_avg_pool(const Proxy& x, const Sizes& output);
Proxy batch_norm(const Proxy& x, const Proxy& mean, const Proxy& variance, Proxy weight, Proxy bias, double eps);
Proxy layer_norm(const Proxy& x, std::size_t normalized_rank, const Proxy& weight, const Proxy& bias, double eps);
Proxy group_norm(const Proxy& x, std::int64_t groups, const Proxy& weight, const Proxy& bias, double eps);
Proxy instance_norm(const Proxy& x, const Proxy& weight, const Proxy& bias, double eps);
Proxy interpolate(const Proxy& x, double scale_factor, const std::string& mode);
Proxy cat(const Proxies& xs, std::int64_t dim);
Proxy reduce(Op op, const Proxy& x, const std::vector<std::int64_t>& dims, bool keepdim);

// `dim` counted from 0; an error of the trace (and 0) where it is out of [-rank - extra, rank + extra).
std::int64_t axis_of(const Proxy& x, std::int64_t dim, std::int64_t extra = 0);

}  // namespace aoq::nn::build
