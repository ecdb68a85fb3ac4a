#include "ir/ops/observed_recurrent.h"

namespace aoq::ops {

namespace {

constexpr std::size_t kLengths = 4;

}  // namespace

InferResult infer_observed(const InferContext& c, const RecurrentForm& form, std::span<const InnerValue> values) {
  AOQ_ASSIGN(std::vector<Type> types, infer_recurrent(c, form));
  AOQ_TRY(require(c.input(0).dtype == DType::f32, c.input(0), "f32"));
  if (c.has(kLengths)) return error(Code::invalid_model, "has sequence lengths, expected none");
  const Type y = types[0];
  const std::int64_t hidden = c.attributes.integer("hidden");
  for (const InnerValue& v : values) {
    types.push_back({DType::f32, {y.shape[1], y.shape[0], y.shape[2], Dim(v.gates * hidden)}, std::nullopt});
  }
  return types;
}

namespace {

// The steps come direction by direction, row by row of the batch, in order.
struct Recorder {
  const EvalContext& c;
  const RecurrentStep& step;
  RecordStep record;
  std::span<const InnerValue> values;
  std::size_t first;  // of the inner values among the results
  std::int64_t steps, batch, hidden;
  mutable std::int64_t next = 0;

  void run(RecurrentDirection& d, float* h, float* cell) const {
    const std::int64_t i = next++, t = i % steps, b = i / steps % batch, direction = i / (steps * batch);
    const std::int64_t row = (direction * steps + t) * batch + b;
    std::vector<float*> out;
    for (std::size_t v = 0; v < values.size(); ++v) {
      out.push_back(reinterpret_cast<float*>(c.outputs[first + v].data) + row * values[v].gates * hidden);
    }
    record(d, h, cell, out.data());
    step.call(step.context, d, h, cell);
  }
};

}  // namespace

Status run_observed(const EvalContext& c, const RecurrentForm& form, std::span<const InnerValue> values,
                    const RecurrentStep& step, RecordStep record) {
  const std::span<const std::int64_t> x = c.inputs[0].shape;
  const Recorder recorder{
      c, step, record, values, c.outputs.size() - values.size(), x[0], x[1], c.attributes.integer("hidden")};
  const RecurrentStep recorded{&recorder, [](const void* context, RecurrentDirection& d, float* h, float* cell) {
                                 static_cast<const Recorder*>(context)->run(d, h, cell);
                               }};
  return run_recurrent(c, form, recorded);
}

}  // namespace aoq::ops
