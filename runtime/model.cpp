#include "runtime/model.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "formats/aoq/aoq.h"
#include "formats/io/file.h"
#include "ir/guard.h"
#include "ir/verifier.h"
#include "runtime/computed_constant.h"
#include "runtime/memory.h"
#include "runtime/plan.h"

namespace aoq {

// What plans make and share: packed constants and the plans themselves.
class Model::Packing : public PackedStores {
 public:
  explicit Packing(const std::vector<std::shared_ptr<const Backend>>& backends) {
    for (const auto& b : backends) stores_.push_back(std::make_unique<Store>(*this, *b));
    for (const auto& b : backends) backends_.push_back(b.get());
  }

  PackedStore& store(const Backend& backend) override {
    for (auto& s : stores_) {
      if (&s->backend == &backend) return *s;
    }
    AOQ_CHECK(false && "a backend of another model");
    return *stores_[0];
  }

  // Computed constants take at most so many bytes, packed ones included: a file cannot have one weight dequantized over
  // and over. What is beyond is a step of the plan.
  void limit_computed(std::uint64_t bytes) { computed_limit_ = bytes; }

  std::uint64_t bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
  }
  std::vector<std::string> repacked() const {
    std::lock_guard lock(mutex_);
    return repacked_;
  }

  // Plans are kept alive by the sessions that use them.
  std::mutex plans_mutex;
  std::map<std::pair<Shapes, PlanUse>, std::weak_ptr<const Plan>> plans;

 private:
  struct Store : PackedStore {
    Store(Packing& all, const Backend& owner) : packing(all), backend(owner) {}
    Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
      return packing.packed(backend, constant, layout);
    }
    Packing& packing;
    const Backend& backend;
  };

  struct Block {
    MemoryBlock memory;
    std::size_t size = 0;
  };

  Result<std::span<const std::byte>> packed(const Backend& backend, const Value& constant, std::string_view layout);
  Result<std::span<const std::byte>> keep(std::pair<const Node*, std::string> key, std::span<const std::byte> bytes);
  Result<Tensor> plain(const Node& node) const;

  std::vector<std::unique_ptr<Store>> stores_;
  std::vector<const Backend*> backends_;
  mutable std::mutex mutex_;
  std::map<std::pair<const Node*, std::string>, Block> blocks_;
  std::vector<std::string> repacked_;
  std::uint64_t bytes_ = 0;
  std::uint64_t computed_bytes_ = 0, computed_limit_ = 0;
};

Result<Tensor> Model::Packing::plain(const Node& node) const {
  const Attributes& a = node.attributes();
  if (node.is(Op::constant)) return a.tensor("value");
  if (is_computed_constant(node)) return compute_constant(node);
  Status last = error(Code::unsupported, "no backend");
  for (const Backend* b : backends_) {
    Result<Tensor> tensor =
        b->unpack(a.tensor("value").bytes(), a.dtype("dtype"), a.integers("shape"), a.string("layout"));
    if (tensor.ok()) return tensor;
    last = std::move(tensor).status();
  }
  return std::move(last).with_context("layout \"" + a.string("layout") + "\" cannot be read here");
}

Result<std::span<const std::byte>> Model::Packing::keep(std::pair<const Node*, std::string> key,
                                                        std::span<const std::byte> bytes) {
  Block block;
  AOQ_TRY(block.memory.reserve(bytes.size()));
  if (!bytes.empty()) std::memcpy(block.memory.data(), bytes.data(), bytes.size());
  block.size = bytes.size();
  bytes_ += bytes.size();
  const Block& kept = blocks_.emplace(std::move(key), std::move(block)).first->second;
  return std::span<const std::byte>(kept.memory.data(), kept.size);
}

Result<std::span<const std::byte>> Model::Packing::packed(const Backend& backend, const Value& constant,
                                                          std::string_view layout) {
  const Node& node = *constant.def();
  const bool is_packed = node.is(Op::packed_constant), is_computed = is_computed_constant(node);
  if (!is_packed && !is_computed && !node.is(Op::constant)) {
    return error(Code::unsupported, "operand of {} is no constant", describe(node));
  }
  const std::string_view stored = is_packed ? std::string_view(node.attributes().string("layout")) : std::string_view();
  if (stored == layout && !is_computed) return node.attributes().tensor("value").bytes();
  std::lock_guard lock(mutex_);
  std::pair<const Node*, std::string> key(&node, layout);
  if (auto it = blocks_.find(key); it != blocks_.end()) {
    return std::span<const std::byte>(it->second.memory.data(), it->second.size);
  }
  if (is_computed && computed_bytes_ > computed_limit_) {
    return error(Code::unsupported, "computed constants take {} bytes already", computed_bytes_);
  }
  AOQ_ASSIGN(Tensor tensor, plain(node));
  if (is_computed) computed_bytes_ += static_cast<std::uint64_t>(tensor.byte_size());
  if (is_packed) repacked_.push_back(node.label());
  if (layout.empty()) return keep(std::move(key), tensor.bytes());
  AOQ_ASSIGN(std::vector<std::byte> bytes, backend.pack(tensor, layout));
  return keep(std::move(key), bytes);
}

Model::Model(Graph graph, ModelOptions options) : graph_(std::move(graph)), options_(std::move(options)) {}
Model::~Model() = default;

Status Model::prepare() {
  AOQ_TRY(verify(graph_));
  if (options_.backends.empty()) return error(Code::invalid_argument, "no backend was given");
  if (options_.pool == nullptr) {
    options_.pool =
        options_.threads > 0 ? std::make_shared<ThreadPool>(options_.threads) : ThreadPool::process_default();
  }
  options_.max_cached_plans = std::max<std::size_t>(options_.max_cached_plans, 1);
  packing_ = std::make_unique<Packing>(options_.backends);
  for (const Node* n : graph_.nodes()) {
    if (n->is(Op::input)) inputs_.push_back({n->attributes().string("name"), n->output()->type()});
    if (n->is(Op::constant) || n->is(Op::packed_constant)) {
      weights_bytes_ += static_cast<std::uint64_t>(n->attributes().tensor("value").byte_size());
    }
  }
  // Codes of a byte and more become floats of four, plain and in one layout; narrower ones seldom are all there is.
  packing_->limit_computed(16 * weights_bytes_);
  const Node& output = *graph_.output_node();
  const auto& names = output.attributes().get<std::vector<std::string>>("names");
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (output.input(i)->def()->is(Op::packed_constant)) {
      return error(Code::unsupported, "result \"{}\" is a packed constant", names[i]);
    }
    outputs_.push_back({names[i], output.input(i)->type()});
  }
  return {};
}

Result<std::shared_ptr<const Model>> Model::from_graph(Graph graph, ModelOptions options) {
  return guarded([&]() -> Result<std::shared_ptr<const Model>> {
    std::shared_ptr<Model> model(new Model(std::move(graph), std::move(options)));
    AOQ_TRY(model->prepare());
    return std::shared_ptr<const Model>(std::move(model));
  });
}

Result<std::shared_ptr<const Model>> Model::from_bytes(std::span<const std::byte> file,
                                                       std::shared_ptr<const void> owner, ModelOptions options) {
  return guarded([&]() -> Result<std::shared_ptr<const Model>> {
    AOQ_ASSIGN(Graph graph, read_aoq(file, std::move(owner), options.limits));
    return from_graph(std::move(graph), std::move(options));
  });
}

Result<std::shared_ptr<const Model>> Model::open(const std::string& path, ModelOptions options) {
  return guarded([&]() -> Result<std::shared_ptr<const Model>> {
    AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, open_aoq(path, options.access));
    Result<std::shared_ptr<const Model>> model = from_bytes(file->bytes(), file, std::move(options));
    AOQ_TRY(file->check_unchanged());
    if (!model.ok()) return std::move(model).status().with_context("load " + path);
    return model;
  });
}

std::uint64_t Model::packed_bytes() const {
  return packing_->bytes();
}
std::vector<std::string> Model::repacked() const {
  return packing_->repacked();
}

Result<std::shared_ptr<const Plan>> Model::plan(const std::vector<std::vector<std::int64_t>>& input_shapes,
                                                PlanUse use) const {
  std::lock_guard lock(packing_->plans_mutex);
  std::erase_if(packing_->plans, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<const Plan>& kept = packing_->plans[{input_shapes, use}];
  if (std::shared_ptr<const Plan> plan = kept.lock()) return plan;
  AOQ_ASSIGN(std::unique_ptr<Plan> built, build_plan(*this, input_shapes, use, *packing_));
  std::shared_ptr<const Plan> plan = std::move(built);
  kept = plan;
  return plan;
}

}  // namespace aoq
