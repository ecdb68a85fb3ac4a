// One-node graphs for the conformance test of the CPU backend's rows: for every op a generator of random instances.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace aoq::cpu::test {

class Draw {
 public:
  explicit Draw(unsigned seed) : engine_(seed) {}
  std::int64_t between(std::int64_t lo, std::int64_t hi) {
    return std::uniform_int_distribution<std::int64_t>(lo, hi)(engine_);
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  float real(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(engine_); }
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return *(values.begin() + between(0, static_cast<std::int64_t>(values.size()) - 1));
  }

  bool large = false;  // enough work for several threads

 private:
  std::mt19937 engine_;
};

using Shape = std::vector<std::int64_t>;

// A node with the data of its inputs; constants are nodes of the graph and have their data here too.
struct Case {
  Graph graph;
  std::vector<Value*> values;
  std::vector<Tensor> data;
  Attributes attributes;
  Node* node = nullptr;

  void input(Tensor tensor);
  void constant(Tensor tensor);
  void absent();
};

enum class Values : std::uint8_t { plain, special, positive };
Tensor random_tensor(Draw& draw, DType dtype, Shape shape, Values values = Values::plain);
// Random sizes; about 200 elements, or 200 000 of a large draw.
Shape random_shape(Draw& draw, std::size_t min_rank, std::size_t max_rank);

// Parts of generate, for linear_weight_only, linear_dynamic and fake_quantize.
void narrow_linear_case(Draw& draw, Op op, Case* c);
// The table of a qembedding: codes, scale and zero points.
void narrow_table(Draw& draw, Case* c, std::int64_t rows, std::int64_t columns);
void fake_quantize_case(Draw& draw, Case* c);
// Fills in everything but the node; false when there is no generator for the op.
bool generate(Draw& draw, Op op, Case* out);

}  // namespace aoq::cpu::test
