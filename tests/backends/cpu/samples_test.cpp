// Where ir/samples.h says that an op keeps samples apart, every slice of the batch gives the same bits: by the
// reference and by the kernels of the CPU backend, on random one-node graphs.
#include "ir/samples.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <set>

#include "backends/cpu/backend.h"
#include "ir/interpreter.h"
#include "runtime/sample_slices.h"
#include "runtime/thread_pool.h"
#include "tests/backends/cpu/rows_cases.h"

namespace aoq::cpu::test {
namespace {

// Packs on demand and keeps everything.
class KeepingStore : public PackedStore {
 public:
  Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
    const Tensor* plain = constant_tensor(&constant);
    if (plain == nullptr) return error(Code::unsupported, "no constant");
    AOQ_ASSIGN(std::vector<std::byte> bytes, CpuBackend().pack(*plain, layout));
    AOQ_ASSIGN(Tensor kept, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
    kept_.push_back(std::move(kept));
    return kept_.back().bytes();
  }

 private:
  std::deque<Tensor> kept_;
};

bool same_elements(DType dtype, std::span<const std::byte> a, const std::byte* b) {
  if (std::memcmp(a.data(), b, a.size()) == 0) return true;
  if (!is_float(dtype) || dtype_info(dtype).bits < 8) return false;
  const std::int64_t count = static_cast<std::int64_t>(a.size()) * 8 / dtype_info(dtype).bits;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = load_as_double(dtype, a.data(), i), y = load_as_double(dtype, b, i);
    if (!(x == y && std::signbit(x) == std::signbit(y)) && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

// Samples [begin, begin + shape[0]) of a tensor; empty where they are no whole number of bytes.
std::optional<Tensor> slice_of(const Tensor& whole, std::int64_t begin, std::vector<std::int64_t> shape) {
  Result<Tensor> part = Tensor::make(whole.dtype(), std::move(shape));
  REQUIRE(part.ok());
  const std::span<std::byte> bytes = part->mutable_bytes();
  const auto samples = static_cast<std::size_t>(part->shape()[0]), all = static_cast<std::size_t>(whole.shape()[0]);
  if (bytes.size() * all != whole.bytes().size() * samples) return std::nullopt;
  std::memcpy(bytes.data(), whole.bytes().data() + bytes.size() / samples * static_cast<std::size_t>(begin),
              bytes.size());
  return std::move(part).value();
}

Result<std::vector<Tensor>> run_kernel(const Case& c, const std::vector<Tensor>& data,
                                       const std::vector<ConcreteType>& outputs) {
  std::vector<ConcreteType> inputs;
  std::vector<const std::byte*> pointers;
  for (std::size_t i = 0; i < c.node->inputs().size(); ++i) {
    inputs.push_back({data[i].dtype(), data[i].shape()});
    pointers.push_back(c.values[i] == nullptr ? nullptr : data[i].bytes().data());
  }
  static ThreadPool pool(2);
  KeepingStore store;
  AOQ_ASSIGN(PreparedKernel prepared,
             CpuBackend().prepare({*c.node, inputs, outputs, c.node->attributes(), store, pool.size(), true}));
  std::vector<Tensor> results;
  std::vector<std::byte*> targets;
  for (const ConcreteType& t : outputs) {
    AOQ_ASSIGN(Tensor result, Tensor::make(t.dtype, t.shape));
    results.push_back(std::move(result));
    targets.push_back(results.back().mutable_bytes().data());
  }
  std::vector<std::byte> scratch(prepared.kernel->scratch_bytes() + 64);
  std::byte* aligned = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64;
  AOQ_TRY(prepared.kernel->run({pointers, targets, aligned, &pool}));
  return results;
}

// A node at one slice: its operands, and the types of its results.
struct SliceCase {
  std::vector<Tensor> data;
  std::vector<ConcreteType> outputs;
};

// Nothing where an attribute holds the batch.
std::optional<SliceCase> cut_case(const Case& c, const std::vector<bool>& cut, const std::vector<Tensor>& whole,
                                  std::int64_t begin, std::int64_t samples) {
  SliceCase out;
  std::vector<ConcreteType> types;
  for (std::size_t i = 0; i < c.data.size(); ++i) {
    std::vector<std::int64_t> shape = c.data[i].shape();
    if (cut[i]) shape[0] = samples;
    std::optional<Tensor> part = cut[i] ? slice_of(c.data[i], begin, shape) : std::optional<Tensor>(c.data[i]);
    if (!part) return std::nullopt;
    out.data.push_back(std::move(*part));
    types.push_back({c.data[i].dtype(), shape});
  }
  const Result<std::vector<Type>> inferred = infer_at(*c.node, types, c.node->attributes());
  if (!inferred.ok()) return std::nullopt;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    out.outputs.push_back(concrete((*inferred)[i]));
    std::vector<std::int64_t> expected = whole[i].shape();
    if (expected.empty() || expected[0] != whole[0].shape()[0]) return std::nullopt;
    expected[0] = samples;
    if (out.outputs.back().shape != expected) return std::nullopt;
  }
  return out;
}

// False where the op joins samples in this instance, or the whole of it fails.
bool check_slices(Draw& draw, Case& c, Op op) {
  const Result<Node*> node = c.graph.create(op, c.values, c.attributes);
  REQUIRE_MESSAGE(node.ok(), op_name(op) << ": " << node.status().message());
  c.node = *node;
  const Result<std::vector<Tensor>> whole = evaluate_node(*c.node, c.data);
  if (!whole.ok() || whole->empty()) return false;
  std::vector<std::vector<std::int64_t>> shapes;
  for (std::size_t i = 0; i < c.data.size(); ++i) {
    shapes.push_back(c.values[i] == nullptr ? std::vector<std::int64_t>() : c.data[i].shape());
  }
  const std::vector<bool> cut = sample_inputs({c.node->def(), c.node->attributes(), shapes, (*whole)[0].shape()});
  REQUIRE(cut.size() == shapes.size());
  if (std::none_of(cut.begin(), cut.end(), [](bool b) { return b; })) return false;
  const std::int64_t batch = (*whole)[0].shape()[0];
  const std::int64_t samples = draw.between(1, batch), begin = draw.between(0, batch - samples);
  const std::optional<SliceCase> slice = cut_case(c, cut, *whole, begin, samples);
  if (!slice) return false;
  INFO(fmt::format("{}: samples {} to {} of {}", op_name(op), begin, begin + samples, batch));
  const Result<std::vector<Tensor>> by_reference = evaluate_node(*c.node, slice->data);
  bool is_constant_cut = false;
  for (std::size_t i = 0; i < cut.size(); ++i) {
    is_constant_cut = is_constant_cut || (cut[i] && constant_tensor(c.values[i]) != nullptr);
  }
  // A kernel may read a constant packed, all of it.
  const Result<std::vector<Tensor>> by_kernel =
      is_constant_cut ? by_reference : run_kernel(c, slice->data, slice->outputs);
  REQUIRE_MESSAGE(by_reference.ok(), by_reference.status().message());
  REQUIRE_MESSAGE(by_kernel.ok(), by_kernel.status().message());
  for (std::size_t i = 0; i < whole->size(); ++i) {
    const std::optional<Tensor> expected = slice_of((*whole)[i], begin, slice->outputs[i].shape);
    if (!expected) return false;
    CHECK(same_elements(expected->dtype(), expected->bytes(), (*by_reference)[i].bytes().data()));
    CHECK(same_elements(expected->dtype(), expected->bytes(), (*by_kernel)[i].bytes().data()));
  }
  return true;
}

}  // namespace

TEST_CASE("a slice of the batch gives the same where samples stay apart") {
  std::set<Op> checked;
  for (const OpDef* def : all_ops()) {
    Draw draw(static_cast<unsigned>(def->op) + 100);
    for (int i = 0; i < 60; ++i) {
      Case c;
      if (!generate(draw, def->op, &c)) break;
      if (check_slices(draw, c, def->op)) checked.insert(def->op);
    }
  }
  for (Op op : {Op::conv,       Op::qconv,    Op::conv_transpose, Op::linear,  Op::qlinear,    Op::matmul,
                Op::qmatmul,    Op::max_pool, Op::avg_pool,       Op::softmax, Op::layer_norm, Op::permute,
                Op::concat,     Op::gather,   Op::reduce_mean,    Op::add,     Op::qadd,       Op::quantize,
                Op::dequantize, Op::lookup,   Op::slice,          Op::pad,     Op::attention,  Op::qlayer_norm}) {
    CHECK_MESSAGE(checked.contains(op), op_name(op) << " was never cut");
  }
}

}  // namespace aoq::cpu::test
