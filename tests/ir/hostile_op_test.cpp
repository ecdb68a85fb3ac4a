// Graphs come from hostile files: whatever attributes and operands say, a node is refused or runs inside its memory.
// The sanitizer builds make this test sharp.

#include <random>

#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

using Random = std::mt19937;

std::int64_t pick(Random& random, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(high - low + 1));
}

Attribute random_attribute(Random& random, AttributeKind kind, std::string_view name) {
  constexpr const char* kWords[] = {"none", "tensor", "axis",  "group", "token",   "reflect", "wrap",
                                    "edge", "linear", "cubic", "CRD",   "reverse", "add",     "max",
                                    "relu", "clamp",  "gelu",  "DCR",   "forward", "tanh",    "constant"};
  constexpr double kReals[] = {0.0, 1.0, -1.0, 0.5, 1e-5, 20.0, 1e300, -1e-40, HUGE_VAL, NAN};
  constexpr DType kDTypes[] = {DType::u8, DType::i8, DType::f32, DType::i4, DType::i64, DType::f16, DType::boolean};
  // Mostly small, sometimes at the ends of the range.
  auto integer = [&] {
    return pick(random, 0, 40) == 0 ? (random() % 2 ? INT64_MAX : INT64_MIN) : pick(random, -2, 4);
  };
  switch (kind) {
    case AttributeKind::boolean:
      return random() % 2 == 0;
    case AttributeKind::integer:
      return integer();
    case AttributeKind::real:
      return kReals[random() % std::size(kReals)];
    case AttributeKind::string:
      return std::string(kWords[random() % std::size(kWords)]);
    case AttributeKind::dtype:
      return kDTypes[random() % std::size(kDTypes)];
    case AttributeKind::integers: {
      Ints v(static_cast<std::size_t>(pick(random, 0, 4)));
      for (std::int64_t& x : v) x = name == "perm" || name == "axes" ? pick(random, -1, 2) : integer();
      return v;
    }
    case AttributeKind::reals:
      return std::vector<double>{};
    case AttributeKind::strings:
      return std::vector<std::string>{};
    case AttributeKind::dims: {
      std::vector<Dim> v(static_cast<std::size_t>(pick(random, 0, 4)));
      for (Dim& x : v) x = Dim(integer());
      return v;
    }
    case AttributeKind::tensor:
      return Tensor();
  }
  return Attribute();
}

Tensor random_tensor(Random& random) {
  constexpr DType kDTypes[] = {DType::f32, DType::f32, DType::f32, DType::f32,     DType::u8,     DType::i8,
                               DType::i64, DType::i32, DType::f16, DType::boolean, DType::i4,     DType::u64,
                               DType::f64, DType::u3,  DType::i8,  DType::f4_e2m1, DType::f8_e8m0};
  Shape shape(static_cast<std::size_t>(pick(random, 0, 4)));
  for (std::int64_t& d : shape) d = pick(random, 0, 3);
  Tensor t = Tensor::make(kDTypes[random() % std::size(kDTypes)], shape).value();
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    store_from_double(t.dtype(), t.mutable_bytes().data(), i, static_cast<double>(pick(random, -3, 3)));
  }
  return t;
}

// Operands that often belong together: one dtype, or one shape.
std::vector<Tensor> random_operands(Random& random, const OpDef& def) {
  std::vector<Tensor> operands;
  bool alike = random() % 2 == 0;
  for (const InputDef& in : def.inputs) {
    if (in.name == nullptr || (in.arity == Arity::optional && random() % 2 == 0)) break;
    operands.push_back(alike && !operands.empty() ? operands[0] : random_tensor(random));
  }
  return operands;
}

void set_random_attribute(Random& random, const AttributeDef& a, Attributes& attributes) {
  attributes.set(a.name, random_attribute(random, a.kind, a.name));
}

// Whether the node was accepted and ran.
bool survives(const OpDef& def, std::vector<Tensor> operands, const Attributes& attributes) {
  Graph graph;
  std::vector<Value*> values;
  for (const Tensor& t : operands) values.push_back(graph.constant(t));
  Result<Node*> node = graph.create(def.op, values, attributes);
  if (!node.ok()) return false;
  // Sizes that a small machine can hold.
  for (std::size_t k = 0; k < (*node)->output_count(); ++k) {
    Dim size = product((*node)->output(k)->type().shape);
    if (!size.is_constant() || size.constant() > 100000) return false;
  }
  operands.resize((*node)->inputs().size());
  return evaluate_node(**node, operands).ok();
}

TEST_CASE("[class 6] random nodes are refused or run") {
  Random random(20240);
  int ran = 0;
  for (const OpDef* def : all_ops()) {
    if (def->has_trait(kStructural)) continue;
    for (int i = 0; i < 400; ++i) {
      Attributes attributes;
      for (const AttributeDef& a : def->attributes) {
        if (a.name == nullptr) break;
        if (a.default_text == nullptr || random() % 2 != 0) set_random_attribute(random, a, attributes);
      }
      ran += survives(*def, random_operands(random, *def), attributes) ? 1 : 0;
    }
  }
  CHECK(ran > 10000);
}

struct Seed {
  Op op;
  std::vector<Tensor> operands;
  Attributes attributes;
};

Attributes static_qparams(std::size_t values) {
  return {{"hidden", std::int64_t{2}},
          {"x_scale", 0.1},
          {"x_zero_point", std::int64_t{3}},
          {"scales", std::vector<double>(values, 0.05)},
          {"zero_points", Ints(values, 128)}};
}

std::vector<Seed> valid_nodes() {
  Tensor image = wave({2, 4, 5, 3}, 0.3f);
  Tensor codes = run(Op::cast, {wave({2, 4, 5, 3}, 0.3f, 50.0f)}, {{"dtype", DType::i8}});
  Tensor weight = run(Op::cast, {wave({6, 2, 3, 2}, 0.7f, 50.0f)}, {{"dtype", DType::i8}});
  Tensor matrix = run(Op::cast, {wave({6, 3}, 0.7f, 50.0f)}, {{"dtype", DType::i8}});
  Attributes qparams{{"x_scale", 0.1}, {"x_zero_point", std::int64_t{3}}, {"out_dtype", DType::i8}, {"out_scale", 0.5}};
  Attributes qconv = qparams;
  qconv.set("groups", std::int64_t{2});
  Attributes qpool = qparams;
  qpool.set("kernel", Ints{2, 2});
  Attributes ab{{"a_scale", 0.1}, {"b_scale", 0.1}, {"out_dtype", DType::i8}, {"out_scale", 0.5}};
  Tensor scales = f32({6}, Floats(6, 0.1f));
  Tensor x = wave({3, 2, 4}, 0.5f);
  Tensor h0 = wave({1, 2, 2}, 1.0f);
  Attributes hidden{{"hidden", std::int64_t{2}}};
  Tensor lengths = i32({2}, {3, 1});
  Attributes cut{{"axes", Ints{2}}, {"starts", std::vector<Dim>{1}}, {"ends", std::vector<Dim>{4}}, {"steps", Ints{2}}};
  Attributes rows{{"columns", std::int64_t{4}}, {"bits", std::int64_t{4}}};
  auto bytes = [](Shape shape) {
    return run(Op::cast, {wave(std::move(shape), 0.7f, 100.0f)}, {{"dtype", DType::i8}});
  };
  return {
      {Op::conv, {image, wave({6, 2, 3, 2}, 0.9f), wave({6}, 1)}, {{"groups", std::int64_t{2}}}},
      {Op::conv_transpose, {image, wave({4, 2, 3, 2}, 0.9f)}, {{"groups", std::int64_t{2}}, {"stride", Ints{2, 3}}}},
      {Op::linear, {image, wave({6, 3}, 1), wave({6}, 1)}, {}},
      {Op::matmul, {image, wave({4, 3, 2}, 1)}, {}},
      {Op::max_pool, {image}, {{"kernel", Ints{2, 3}}}},
      {Op::avg_pool, {image}, {{"kernel", Ints{2, 3}}}},
      {Op::batch_norm, {image, wave({4}, 1), wave({4}, 2), wave({4}, 3), f32({4}, {1, 2, 3, 4})}, {}},
      {Op::resize, {image}, {{"sizes", std::vector<Dim>{2, 4, 7, 2}}, {"mode", std::string("cubic")}}},
      {Op::slice, {image}, cut},
      {Op::pad, {image}, {{"pads", Ints{0, 1, 0, 2, 1, 0, -1, 0}}, {"mode", std::string("reflect")}}},
      {Op::depth_to_space, {image}, {{"block", std::int64_t{2}}}},
      {Op::gather, {image, i64({2, 1}, {0, -1})}, {}},
      {Op::gather_nd, {image, i64({2, 2}, {0, 1, 1, 2})}, {}},
      {Op::scatter_nd, {image, i64({1, 3}, {0, 1, 2}), wave({1, 3}, 1)}, {}},
      {Op::scatter_elements, {image, i64({1, 1, 1, 2}, {0, 1}), wave({1, 1, 1, 2}, 1)}, {}},
      {Op::where, {boolean({3}, {0, 1, 1}), image, image}, {}},
      {Op::quantize,
       {image, f32({4}, {1, 2, 3, 4})},
       {{"dtype", DType::u8}, {"granularity", std::string("axis")}, {"axis", std::int64_t{1}}}},
      {Op::dequantize,
       {codes, f32({2, 2, 5, 3}, Floats(60, 0.5f))},
       {{"granularity", std::string("group")}, {"axis", std::int64_t{1}}, {"group", std::int64_t{2}}}},
      {Op::lstm,
       {x, wave({1, 8, 4}, 1), wave({1, 8, 2}, 2), wave({1, 16}, 3), lengths, h0, h0, wave({1, 6}, 1)},
       hidden},
      {Op::gru, {x, wave({1, 6, 4}, 1), wave({1, 6, 2}, 2), wave({1, 12}, 3), lengths, h0}, hidden},
      {Op::rnn, {x, wave({1, 2, 4}, 1), wave({1, 2, 2}, 2), wave({1, 4}, 3), lengths, h0}, hidden},
      {Op::qlstm,
       {x, bytes({1, 8, 4}), bytes({1, 8, 2}), f32({1}, {0.1f}), f32({1, 8}, Floats(8, 0.1f)), wave({1, 16}, 3),
        lengths, h0, h0, wave({1, 6}, 1)},
       hidden},
      {Op::qgru,
       {x, bytes({1, 6, 4}), bytes({1, 6, 2}), f32({1}, {0.1f}), f32({1}, {0.2f}), wave({1, 12}, 3), lengths, h0},
       hidden},
      {Op::qrnn,
       {x, bytes({1, 2, 4}), bytes({1, 2, 2}), f32({1}, {0.1f}), f32({1}, {0.2f}), wave({1, 4}, 3), lengths, h0},
       hidden},
      {Op::observed_lstm, {x, wave({1, 8, 4}, 1), wave({1, 8, 2}, 2), wave({1, 16}, 3)}, hidden},
      {Op::observed_gru, {x, wave({1, 6, 4}, 1), wave({1, 6, 2}, 2), wave({1, 12}, 3)}, hidden},
      {Op::qlstm_static,
       {u8({1, 1, 4}, {1, 2, 3, 4}), bytes({1, 8, 4}), bytes({1, 8, 2}), f32({1}, {0.1f}), f32({1, 8}, Floats(8, 0.1f)),
        wave({1, 16}, 3)},
       static_qparams(7)},
      {Op::qgru_static,
       {u8({1, 1, 4}, {1, 2, 3, 4}), bytes({1, 6, 4}), bytes({1, 6, 2}), f32({1}, {0.1f}), f32({1}, {0.2f}),
        wave({1, 12}, 3)},
       static_qparams(8)},
      {Op::embedding_bag, {wave({3, 4}, 1), i64({4}, {0, 2, -1, 1}), i64({2}, {0, 3})}, {}},
      {Op::qembedding, {u8({2, 2}, {1, 2, 3, 4}), wave({2}, 1), wave({2}, 2), i64({2, 1}, {0, -1})}, rows},
      {Op::dequantize_rows, {u8({2, 2}, {1, 2, 3, 4}), wave({2}, 1), wave({2}, 2)}, rows},
      {Op::lookup, {codes, wave({256}, 1)}, {}},
      {Op::qconv, {codes, weight, scales, scales}, qconv},
      {Op::qlinear, {codes, matrix, scales, scales}, qparams},
      {Op::qmatmul, {codes, run(Op::permute, {matrix}, {{"perm", Ints{1, 0}}})}, ab},
      {Op::attention,
       {wave({1, 3, 2, 4}, 1), wave({1, 5, 2, 4}, 2), wave({1, 5, 2, 3}, 3), wave({2, 3, 5}, 4)},
       {{"scale", 0.5}, {"arithmetic", std::string("int8")}}},
      {Op::qlayer_norm, {wave({2, 3}, 1), wave({3}, 2), wave({3}, 3)}, {{"out_scale", 0.1}}},
      {Op::qadd, {codes, codes}, ab},
      {Op::qmul, {codes, codes}, ab},
      {Op::qavg_pool, {codes}, qpool},
      {Op::requantize, {codes}, qparams},
      {Op::topk, {image}, {{"k", std::int64_t{2}}}},
  };
}

TEST_CASE("[class 5] sound nodes with one thing changed are refused or run") {
  Random random(7);
  for (const Seed& seed : valid_nodes()) {
    const OpDef& def = op_def(seed.op);
    CAPTURE(def.name);
    CHECK(survives(def, seed.operands, seed.attributes));
    std::size_t attribute_count = 0;
    while (def.attributes[attribute_count].name != nullptr) ++attribute_count;
    for (int i = 0; i < 500; ++i) {
      std::vector<Tensor> operands = seed.operands;
      Attributes attributes = seed.attributes;
      if (attribute_count > 0 && random() % 4 != 0) {
        set_random_attribute(random, def.attributes[random() % attribute_count], attributes);
      } else {
        Tensor& operand = operands[random() % operands.size()];
        // Another value, or the same with one element off the map.
        if (random() % 2 == 0 || operand.element_count() == 0) {
          operand = random_tensor(random);
        } else {
          std::int64_t at = pick(random, 0, operand.element_count() - 1);
          store_from_double(operand.dtype(), operand.mutable_bytes().data(), at, 1e30);
        }
      }
      survives(def, operands, attributes);
    }
  }
}

}  // namespace
}  // namespace aoq
