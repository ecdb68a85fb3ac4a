// What an op multiplies is read off its row of the op table:
//
//   x, weight [out, in]                  every result element is a sum over the last dimension of x
//   x, weight [out, in / groups, k...]   every result element is a sum over one filter
//   x, weight, output_padding            every element of x meets the filters of its channel
//   a, b                                 every result element is a sum over the last dimension of a
//   x [time, batch, in], w, r            in every step each sample meets both matrices
//   q, k, v [batch, rows, heads, width]  every row of q meets every row of k, and the outcome every row of v
//
// Normalisations call their factors weight as well; they have an epsilon and sum no products.
#include "runtime/multiply_accumulates.h"

#include <limits>

namespace aoq {
namespace {

using Shape = std::span<const std::int64_t>;

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::uint64_t>::max() : product;
}

std::uint64_t elements(Shape shape) {
  std::uint64_t count = 1;
  for (std::int64_t d : shape) count = times(count, static_cast<std::uint64_t>(d));
  return count;
}

std::uint64_t last(Shape shape) {
  return shape.empty() ? 1 : static_cast<std::uint64_t>(shape.back());
}

std::uint64_t of_weighted(const OpDef& def, Shape x, Shape weight, Shape result) {
  if (def.attribute("epsilon") != nullptr || weight.size() < 2) return 0;
  if (weight.size() == 2) return times(elements(result), last(x));
  return times(elements(def.attribute("output_padding") != nullptr ? x : result), elements(weight.subspan(1)));
}

std::uint64_t of_recurrent(Shape x, Shape w, Shape r) {
  if (x.size() < 2) return 0;
  const std::uint64_t matrices = elements(w) + elements(r);
  return times(times(static_cast<std::uint64_t>(x[0]), static_cast<std::uint64_t>(x[1])), matrices);
}

std::uint64_t of_attention(Shape q, Shape k, Shape result) {
  if (k.size() < 2) return 0;
  return times(elements(q) + elements(result), static_cast<std::uint64_t>(k[1]));
}

}  // namespace

std::uint64_t multiply_accumulates(const Node& node, std::span<const ConcreteType> inputs,
                                   std::span<const ConcreteType> outputs) {
  const OpDef& def = node.def();
  const auto shape = [&](int i) -> Shape {
    return i >= 0 && static_cast<std::size_t>(i) < inputs.size() ? Shape(inputs[static_cast<std::size_t>(i)].shape)
                                                                 : Shape();
  };
  if (outputs.empty()) return 0;
  const int x = def.input_index("x"), weight = def.input_index("weight"), a = def.input_index("a");
  if (x >= 0 && weight >= 0) return of_weighted(def, shape(x), shape(weight), outputs[0].shape);
  if (x >= 0 && def.input_index("w") >= 0 && def.input_index("r") >= 0) {
    return of_recurrent(shape(x), shape(def.input_index("w")), shape(def.input_index("r")));
  }
  const int q = def.input_index("q"), k = def.input_index("k"), v = def.input_index("v");
  if (q >= 0 && k >= 0 && v >= 0) return of_attention(shape(q), shape(k), outputs[0].shape);
  const bool is_elementwise = def.has_trait(kElementwise);
  if (a >= 0 && def.input_index("b") >= 0 && !is_elementwise) return times(elements(outputs[0].shape), last(shape(a)));
  return 0;
}

}  // namespace aoq
