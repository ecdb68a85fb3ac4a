#include "runtime/graph_executor.h"

#include <unordered_map>

#include "ir/guard.h"
#include "runtime/session.h"

namespace aoq {
namespace {

class SessionExecutable : public Executable {
 public:
  SessionExecutable(const Graph& graph, Session session) : session_(std::move(session)) {
    // A clone has the same nodes in the same order.
    const Node* copy = session_.model().graph().first();
    for (const Node* n : graph.nodes()) {
      for (std::size_t i = 0; i < n->output_count(); ++i) {
        copies_[n->output(i)] = copy->output(i);
        originals_[copy->output(i)] = n->output(i);
      }
      copy = copy->next();
    }
  }

  Result<std::vector<Tensor>> run(std::span<const Tensor> inputs, const Tap& tap) override {
    return guarded([&] { return run_unguarded(inputs, tap); });
  }

 private:
  Result<std::vector<Tensor>> run_unguarded(std::span<const Tensor> inputs, const Tap& tap) {
    std::vector<TensorView> views;
    for (const Tensor& t : inputs) views.push_back(t.view());
    Tap mapped;
    for (const Value* v : tap.values) {
      auto copy = copies_.find(v);
      if (copy == copies_.end()) return error(Code::invalid_argument, "the tap asks for a value of another graph");
      if (const Tensor* constant = constant_tensor(v)) AOQ_TRY(tap.callback(*v, constant->view()));
      mapped.values.push_back(copy->second);
    }
    mapped.callback = [&](const Value& v, TensorView view) { return tap.callback(*originals_.at(&v), view); };
    AOQ_ASSIGN(std::span<const TensorView> results, session_.run(views, mapped));
    std::vector<Tensor> out;
    for (const TensorView& r : results) {
      AOQ_ASSIGN(Tensor tensor, Tensor::make(r.dtype, {r.shape.begin(), r.shape.end()}));
      const std::span<std::byte> bytes = tensor.mutable_bytes();
      std::copy_n(r.data, bytes.size(), bytes.data());
      out.push_back(std::move(tensor));
    }
    return out;
  }

  Session session_;
  std::unordered_map<const Value*, const Value*> copies_, originals_;
};

}  // namespace

Result<std::unique_ptr<Executable>> GraphExecutor::prepare(const Graph& graph) {
  return guarded([&]() -> Result<std::unique_ptr<Executable>> {
    AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(graph.clone(), options_));
    AOQ_ASSIGN(Session session, Session::create(std::move(model)));
    return std::unique_ptr<Executable>(std::make_unique<SessionExecutable>(graph, std::move(session)));
  });
}

}  // namespace aoq
