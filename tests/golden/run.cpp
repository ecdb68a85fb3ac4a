#include "tests/golden/run.h"

#include "runtime/session.h"
#include "tools/machine.h"

namespace aoq::golden {

Result<Tensor> run_on_cpu(Graph graph, const std::vector<Tensor>& inputs) {
  AOQ_ASSIGN(std::shared_ptr<const Model> model,
             Model::from_graph(std::move(graph), tools::model_options({.threads = 1})));
  AOQ_ASSIGN(Session session, Session::create(model));
  std::vector<TensorView> views;
  for (const Tensor& t : inputs) views.push_back(t.view());
  AOQ_ASSIGN(std::span<const TensorView> results, session.run(views));
  const TensorView& y = results[0];
  const auto element_bytes = static_cast<std::size_t>(dtype_info(y.dtype).bits / 8);
  return Tensor::copy_of(y.dtype, {y.shape.begin(), y.shape.end()},
                         {y.data, static_cast<std::size_t>(y.element_count()) * element_bytes});
}

}  // namespace aoq::golden
