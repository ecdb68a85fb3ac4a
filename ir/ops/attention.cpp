#include <limits>

#include "ir/attention_levels.h"
#include "ir/math.h"
#include "ir/ops/fma.h"
#include "ir/ops/lowered.h"

namespace aoq {

namespace {

using Line = std::vector<float>;

struct Sizes {
  std::int64_t batch, rows, heads, depth, columns, width;
  // Where the line of `length` numbers of a head begins, in a tensor whose rows are `rows`.
  std::int64_t at(std::int64_t b, std::int64_t row, std::int64_t head, std::int64_t rows_of,
                  std::int64_t length) const {
    return ((b * rows_of + row) * heads + head) * length;
  }
};

Sizes sizes_of(const EvalContext& c) {
  std::span<const std::int64_t> q = c.inputs[0].shape;
  std::span<const std::int64_t> v = c.inputs[2].shape;
  return {q[0], q[1], q[2], q[3], v[1], v[3]};
}

// scale is 1 and divisor 0 where they are absent.
struct Factors {
  bool has_scale, has_divisor;
  float scale, divisor;

  explicit Factors(const Attributes& a)
      : has_scale(a.has("scale")),
        has_divisor(a.has("divisor")),
        scale(has_scale ? static_cast<float>(a.real("scale")) : 1.0f),
        divisor(has_divisor ? static_cast<float>(a.real("divisor")) : 1.0f) {}
  float apply(float x) const {
    if (has_scale) x = x * scale;
    return has_divisor ? x / divisor : x;
  }
};

// One head of one batch: k and v as the arithmetic reads them.
struct Head {
  std::int64_t b, head;
};

// Lines of numbers as codes from -127 to 127, each with a scale of its own.
struct CodeLines {
  std::vector<std::int32_t> codes;
  Line scales;

  void add(std::span<const float> x) {
    float max = 0.0f;  // or NaN where one is
    for (float value : x) max = math::maximum(max, std::fabs(value));
    const float scale = max / 127.0f;
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (float value : x) codes.push_back(quantize_value(value, inverse, 0, -127, 127));
    scales.push_back(scale);
  }
};

std::int32_t dot(const std::int32_t* a, const std::int32_t* b, std::int64_t n) {
  std::uint32_t sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<std::uint32_t>(a[i] * b[i]);
  return static_cast<std::int32_t>(sum);
}

class Reference {
 public:
  explicit Reference(const EvalContext& c)
      : s_(sizes_of(c)), factors_(c.attributes), q_(data(c, 0)), k_(data(c, 1)), v_(data(c, 2)), mask_(data(c, 3)) {
    if (!c.has(3)) return;
    const std::vector<std::int64_t> shape{s_.batch, s_.heads, s_.rows, s_.columns};
    const TensorView masks[] = {c.inputs[3]};
    ops::BroadcastIndex at(shape, masks);
    for (std::int64_t i = 0, n = ops::count(shape, 0, 4); i < n; ++i, at.next()) mask_at_.push_back(at.index(0));
  }

  void run(bool is_integer, const ops::Output& out) const {
    for (std::int64_t i = 0; i < s_.batch * s_.heads; ++i) {
      const Head head{i / s_.heads, i % s_.heads};
      if (is_integer) {
        run_integer(head, out);
      } else {
        run_float(head, out);
      }
    }
  }

 private:
  static const float* data(const EvalContext& c, std::size_t i) {
    return c.has(i) ? reinterpret_cast<const float*>(c.inputs[i].data) : nullptr;
  }
  std::span<const float> line_of(const float* x, Head h, std::int64_t row, std::int64_t rows,
                                 std::int64_t length) const {
    return {x + s_.at(h.b, row, h.head, rows, length), static_cast<std::size_t>(length)};
  }
  float mask(Head h, std::int64_t row, std::int64_t column) const {
    const std::int64_t i = ((h.b * s_.heads + h.head) * s_.rows + row) * s_.columns + column;
    return mask_[mask_at_[static_cast<std::size_t>(i)]];
  }

  void run_float(Head h, const ops::Output& out) const {
    Line keys(static_cast<std::size_t>(s_.depth * s_.columns));  // [depth, columns]
    for (std::int64_t j = 0; j < s_.columns; ++j) {
      std::span<const float> key = line_of(k_, h, j, s_.columns, s_.depth);
      for (std::int64_t d = 0; d < s_.depth; ++d) {
        keys[static_cast<std::size_t>(d * s_.columns + j)] = key[static_cast<std::size_t>(d)];
      }
    }
    for (std::int64_t row = 0; row < s_.rows; ++row) {
      std::span<const float> query = line_of(q_, h, row, s_.rows, s_.depth);
      Line scores(static_cast<std::size_t>(s_.columns), 0.0f);
      for (std::int64_t d = 0; d < s_.depth; ++d) {
        ops::fma_accumulate(query[static_cast<std::size_t>(d)], keys.data() + d * s_.columns, scores.data(),
                            s_.columns);
      }
      for (std::int64_t j = 0; j < s_.columns; ++j) {
        float& score = scores[static_cast<std::size_t>(j)];
        score = factors_.apply(score);
        if (mask_ != nullptr) score = score + mask(h, row, j);
      }
      math::softmax_row(scores.data(), scores.data(), s_.columns);
      Line y(static_cast<std::size_t>(s_.width), 0.0f);
      for (std::int64_t j = 0; j < s_.columns; ++j) {
        const float* value = line_of(v_, h, j, s_.columns, s_.width).data();
        ops::fma_accumulate(scores[static_cast<std::size_t>(j)], value, y.data(), s_.width);
      }
      store(h, row, y, out);
    }
  }

  // The codes exp(x - max) * levels of a row of scores; those that are no numbers count as 0.
  std::vector<std::int32_t> weights_of(const Line& scores) const {
    const std::int32_t levels = attention_levels(s_.columns);
    float max = -std::numeric_limits<float>::infinity();
    for (float x : scores) max = x > max ? x : max;
    std::vector<std::int32_t> weights;
    for (float x : scores)
      weights.push_back(quantize_value(math::exp_weight(x - max), static_cast<float>(levels), 0, 0, levels));
    return weights;
  }

  Line mean_key(Head h) const {
    Line mean(static_cast<std::size_t>(s_.depth), 0.0f);
    for (std::int64_t j = 0; j < s_.columns; ++j) {
      std::span<const float> key = line_of(k_, h, j, s_.columns, s_.depth);
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] = mean[d] + key[d];
    }
    for (float& sum : mean) sum = sum / static_cast<float>(s_.columns);
    return mean;
  }

  void run_integer(Head h, const ops::Output& out) const {
    CodeLines keys, values;
    const Line mean = mean_key(h);
    for (std::int64_t j = 0; j < s_.columns; ++j) {
      std::span<const float> key = line_of(k_, h, j, s_.columns, s_.depth);
      Line centred(key.begin(), key.end());
      for (std::size_t d = 0; d < mean.size(); ++d) centred[d] = centred[d] - mean[d];
      keys.add(centred);
    }
    for (std::int64_t e = 0; e < s_.width; ++e) {
      Line column;
      for (std::int64_t j = 0; j < s_.columns; ++j)
        column.push_back(v_[s_.at(h.b, j, h.head, s_.columns, s_.width) + e]);
      values.add(column);
    }
    for (std::int64_t row = 0; row < s_.rows; ++row) {
      CodeLines query;
      query.add(line_of(q_, h, row, s_.rows, s_.depth));
      const float factor = factors_.apply(query.scales[0]);
      Line scores;
      for (std::int64_t j = 0; j < s_.columns; ++j) {
        const std::int32_t sum = dot(query.codes.data(), keys.codes.data() + j * s_.depth, s_.depth);
        const float score = static_cast<float>(sum) * keys.scales[static_cast<std::size_t>(j)];
        scores.push_back(mask_ == nullptr ? score * factor : std::fma(score, factor, mask(h, row, j)));
      }
      const std::vector<std::int32_t> weights = weights_of(scores);
      std::int32_t total = 0;
      for (std::int32_t weight : weights) total += weight;
      const float inverse = 1.0f / static_cast<float>(total);
      Line y;
      for (std::int64_t e = 0; e < s_.width; ++e) {
        const std::int32_t sum = dot(weights.data(), values.codes.data() + e * s_.columns, s_.columns);
        y.push_back((static_cast<float>(sum) * values.scales[static_cast<std::size_t>(e)]) * inverse);
      }
      store(h, row, y, out);
    }
  }

  void store(Head h, std::int64_t row, const Line& y, const ops::Output& out) const {
    const std::int64_t begin = s_.at(h.b, row, h.head, s_.rows, s_.width);
    for (std::size_t e = 0; e < y.size(); ++e) out.store_value(begin + static_cast<std::int64_t>(e), y[e]);
  }

  Sizes s_;
  Factors factors_;
  const float *q_, *k_, *v_, *mask_;
  std::vector<std::int64_t> mask_at_;
};

Status check_shapes(const InferContext& c) {
  const Type &q = c.input(0), &k = c.input(1), &v = c.input(2);
  for (std::size_t i = 0; i < 3; ++i) AOQ_TRY(ops::require_rank(c.input(i), 4, 4));
  const std::vector<Dim> keys{q.shape[0], k.shape[1], q.shape[2], q.shape[3]};
  AOQ_TRY(ops::require_shape("k", k, keys));
  const std::vector<Dim> values{q.shape[0], k.shape[1], q.shape[2], v.shape[3]};
  AOQ_TRY(ops::require_shape("v", v, values));
  if (!c.has(3)) return {};
  const std::vector<Dim> scores{q.shape[0], q.shape[2], q.shape[1], k.shape[1]};
  AOQ_ASSIGN(std::vector<Dim> shape, ops::broadcast_shapes(scores, c.input(3).shape));
  return ops::require_shape("mask, broadcast against the scores,", Type{DType::f32, std::move(shape)}, scores);
}

Status check_attributes(const InferContext& c) {
  for (const char* name : {"scale", "divisor"}) {
    if (c.attributes.has(name)) AOQ_TRY(ops::require_finite(c.attributes, name));
  }
  const std::string& arithmetic = c.attributes.string("arithmetic");
  if (arithmetic != "f32" && arithmetic != "int8") {
    return error(Code::invalid_model, "arithmetic is \"{}\", expected f32 or int8", arithmetic);
  }
  return ops::check_output(c);
}

}  // namespace

const OpDef kOpDef_attention = {
    .op = Op::attention,
    .name = "attention",
    .doc =
        "softmax(q k^T * scale / divisor + mask) v for each head, over q [batch, rows, heads, depth], k [batch, "
        "columns, heads, depth] and v [batch, columns, heads, width], giving [batch, rows, heads, width]; the mask "
        "broadcasts to [batch, heads, rows, columns]. In f32 each step rounds as matmul, mul, div, add, softmax and "
        "matmul do. In int8 the mean over columns is taken off k, which no softmax sees; then lines of q and k over "
        "depth and of v over columns become codes from -127 to 127 in steps of max|x| / 127. A score is fma(float(sum) "
        "* k_step, q_step * scale / divisor, mask), without a mask the product; its weight is the code exp(score - "
        "max) * levels, levels = min(32767, (2^31 - 1) / (127 * columns)) rounded down; and the result is (float(sum) "
        "* "
        "v_step) * (1 / float(sum of weights)). Codes of the result are those of quantize.",
    .inputs = {{{"q"}, {"k"}, {"v"}, {"mask", Arity::optional}}},
    .attributes = {{{"scale", AttributeKind::real, ops::kAbsent, "of the products of q and k"},
                    {"divisor", AttributeKind::real, ops::kAbsent, "of the scaled products"},
                    {"arithmetic", AttributeKind::string, "f32", "f32 or int8"},
                    {"out_dtype", AttributeKind::dtype, "f32", "u8, i8 or f32"},
                    ops::kOutScale,
                    ops::kOutZeroPoint}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      for (std::size_t i = 0; i < c.inputs.size(); ++i) {
        if (c.has(i)) AOQ_TRY(ops::require(c.input(i).dtype == DType::f32, c.input(i), "f32"));
      }
      AOQ_TRY(check_attributes(c));
      AOQ_TRY(check_shapes(c));
      std::vector<Dim> shape = c.input(0).shape;
      shape[3] = c.input(2).shape[3];
      return ops::one_result(ops::output_dtype(c), std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      // Then there may be no end of scores, whose number nothing that is stored bounds.
      if (ops::count(c.outputs[0].shape, 0, 4) == 0) return {};
      Reference(c).run(c.attributes.string("arithmetic") == "int8", ops::read_output(c));
      return {};
    },
};

}  // namespace aoq
