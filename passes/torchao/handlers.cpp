#include "passes/torchao/handlers.h"

namespace aoq::torchao {

std::vector<Handler> built_in_handlers() {
  std::vector<Handler> handlers;
  add_weight_only_handlers(handlers);
  add_activation_handlers(handlers);
  add_algorithm_handlers(handlers);
  add_float_handlers(handlers);
  return handlers;
}

}  // namespace aoq::torchao
