// Does not compile: the model's way depends on its data. See traced_bool.py.
#include "ir/nn/modules.h"

struct Model : aoq::nn::Module {
  aoq::nn::Proxy forward(const aoq::nn::Proxy& x) override {
#ifdef DECIDES_BY_DATA
    if (x.sum({0}) > 0.0) return x;
#endif
    return aoq::nn::relu(x);
  }
};

int main() {
  Model model;
  return model.children().empty() ? 0 : 1;
}
