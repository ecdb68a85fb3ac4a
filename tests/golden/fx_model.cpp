#include "tests/golden/fx_model.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "formats/io/file.h"
#include "formats/onnx/importer.h"
#include "ir/interpreter.h"
#include "ir/nn/recurrent.h"
#include "ir/nn/region_module.h"
#include "passes/fx/custom_module.h"

namespace aoq::golden {
namespace {

using nn::Proxies;
using nn::Proxy;

// What a line of the graph makes: a tensor, several, a number or a list of any.
struct Made {
  Proxy proxy;
  std::vector<Made> list;
  Dim dim = Dim(0);
  double number = 0;
  enum class Kind : std::uint8_t { proxy, list, dim, number, none } kind = Kind::none;
};

Made made(Proxy p) {
  Made m;
  m.kind = Made::Kind::proxy;
  m.proxy = std::move(p);
  return m;
}

// The attributes of a module, from the ONNX export.
class Exported {
 public:
  static Exported of(const Case& c) {
    Exported e;
    const Result<std::string> folder = json_string(c.args(), "directory");
    if (!folder.ok()) return e;
    const Result<std::shared_ptr<const MappedFile>> file =
        MappedFile::open(c.directory() + "/" + *folder + "/float.onnx");
    if (!file.ok()) return e;
    onnx::OnnxOptions options;
    options.owner = *file;
    Result<Graph> graph = onnx::import_onnx((*file)->bytes(), options);
    if (graph.ok()) e.graph_ = std::make_unique<Graph>(std::move(*graph));
    return e;
  }
  // The node of an op inside a module; null when there is none.
  const Node* find(const std::string& path, Op op) const {
    if (graph_ == nullptr) return nullptr;
    for (const Node* n : graph_->nodes()) {
      if (n->is(op) && !n->origins.empty() && path_of(n->origins[0]) == path) return n;
    }
    return nullptr;
  }

 private:
  // "/layer1/layer1.0/conv/Conv" -> "layer1.0.conv".
  static std::string path_of(const std::string& name) {
    std::string path;
    std::size_t at = 1;
    while (at < name.size()) {
      const std::size_t slash = name.find('/', at);
      if (slash == std::string::npos) break;
      const std::string part = name.substr(at, slash - at);
      path = path.empty() || part.starts_with(path + ".") ? part : path + "." + part;
      at = slash + 1;
    }
    return path;
  }
  std::unique_ptr<Graph> graph_;
};

// The float model of a case: a forward that follows the lines of its graph.
class TextModel : public nn::Module {
 public:
  TextModel(const Case& c, const FxCase& fx, std::string bag_mode)
      : case_(c), fx_(fx), exported_(Exported::of(c)), bag_mode_(std::move(bag_mode)) {
    for (const ModuleLine& m : fx.prepared_modules) types_[m.name] = m.type;
  }
  const char* type_name() const override { return "Model"; }

  Proxies run(std::span<const Proxy> inputs) {
    std::size_t next = 0;
    for (const FxLine& line : fx_.graph) {
      if (line.op == "placeholder") {
        values_[line.name] = made(inputs[next++]);
      } else if (line.op == "get_attr") {
        values_[line.name] = made(attribute(line.target, inputs[0]));
      } else if (line.op == "output") {
        const Made out = value(line.args[0]);
        if (out.kind == Made::Kind::proxy) return {out.proxy};
        Proxies all;
        for (const Made& m : out.list) all.push_back(m.proxy);
        return all;
      } else {
        values_[line.name] = line.op == "call_module"     ? module(line)
                             : line.op == "call_function" ? function(line)
                                                          : method(line);
      }
    }
    return {};
  }

 private:
  void fail(const Proxy& like, const std::string& text) {
    if (like.tracer() != nullptr) like.tracer()->fail(error(Code::unsupported, "{}", text));
  }

  Made value(const Item& item) const {
    Made m;
    if (item.kind == Item::Kind::name) {
      const auto found = values_.find(item.text);
      return found == values_.end() ? m : found->second;
    }
    if (item.kind == Item::Kind::number || item.kind == Item::Kind::boolean) {
      m.kind = Made::Kind::number;
      m.number = item.number;
    } else if (item.kind == Item::Kind::list) {
      m.kind = Made::Kind::list;
      for (const Item& inner : item.items) m.list.push_back(value(inner));
    }
    return m;
  }
  static Dim dim_of(const Made& m) {
    return m.kind == Made::Kind::dim ? m.dim : Dim(static_cast<std::int64_t>(m.number));
  }
  static nn::Shape shape_of(const Made& m) {
    if (m.kind != Made::Kind::list) return {dim_of(m)};
    nn::Shape out;
    for (const Made& inner : m.list) out.push_back(dim_of(inner));
    return out;
  }
  static nn::Sizes sizes_of(const Made& m) {
    nn::Sizes out;
    for (const Dim& d : shape_of(m)) out.push_back(d.is_constant() ? d.constant() : 0);
    return out;
  }
  // Argument `at`, or the keyword; none where it is left out.
  Made argument(const FxLine& line, std::size_t at, const char* key) const {
    if (at < line.args.size()) return value(line.args[at]);
    const auto found = line.kwargs.find(key);
    return found == line.kwargs.end() ? Made() : value(found->second);
  }
  std::int64_t integer(const FxLine& line, std::size_t at, const char* key, std::int64_t otherwise) const {
    const Made m = argument(line, at, key);
    return m.kind == Made::Kind::number ? static_cast<std::int64_t>(m.number) : otherwise;
  }
  double real(const FxLine& line, std::size_t at, const char* key, double otherwise) const {
    const Made m = argument(line, at, key);
    return m.kind == Made::Kind::number ? m.number : otherwise;
  }
  Proxy proxy(const FxLine& line, std::size_t at, const char* key = "input") const {
    return argument(line, at, key).proxy;
  }

  const Tensor* state(const std::string& path) const {
    const auto found = fx_.state.find(path);
    return found == fx_.state.end() ? nullptr : &found->second;
  }

  Proxy attribute(const std::string& name, const Proxy& like) {
    const Tensor* t = state(name);
    if (t == nullptr) {
      fail(like, "no state " + name);
      return {like.tracer(), nullptr};
    }
    auto [it, is_new] = attributes_.try_emplace(name);
    if (is_new) {
      it->second = std::make_unique<nn::Parameter>(*this, name, t->shape(), t->dtype());
      const Status set = it->second->set(*t);
      if (!set.ok()) fail(like, std::string(set.message()));
    }
    return (*it->second)(like);
  }

  // ---- modules

  nn::Module* parent_of(const std::string& path) {
    const std::size_t dot = path.find_last_of('.');
    if (dot == std::string::npos) return this;
    const std::string above = path.substr(0, dot);
    auto& slot = containers_[above];
    if (slot == nullptr) {
      slot = std::make_unique<nn::Module>(nn::Slot{parent_of(above), above.substr(above.find_last_of('.') + 1)});
    }
    return slot.get();
  }

  Made module(const FxLine& line) {
    const Proxy x = proxy(line, 0);
    auto& slot = modules_[line.target];
    if (slot == nullptr) {
      const std::string& path = line.target;
      slot = make(nn::Slot{parent_of(path), path.substr(path.find_last_of('.') + 1)}, path, x, line);
      if (slot == nullptr) {
        fail(x, fmt::format("module {} of type {} cannot be built", path, type_of(path)));
        return made({x.tracer(), nullptr});
      }
      for (const auto& [name, p] : slot->parameters()) {
        const Tensor* t = state(path + "." + name);
        const Status set = t == nullptr ? error(Code::not_found, "no state {}.{}", path, name) : p->set(*t);
        if (!set.ok()) fail(x, std::string(set.message()));
      }
    }
    Proxy y = (*slot)(x);
    if (fx_.is_whole) return made(y);
    // The graph is what prepare made: what it had fused comes back, under the names that tell it was there.
    if (const std::string norm = folded_norm(line.target); !norm.empty()) y = batch_norm(norm, y);
    const std::string type = type_of(line.target);
    if (type.find("ReLU") != std::string::npos && type != "ReLU") y = nn::F::relu(y);
    return made(y);
  }

  // A batch norm of the state that is no node any more: the sibling behind the module.
  std::string folded_norm(const std::string& path) const {
    const std::size_t dot = path.find_last_of('.');
    const std::string last = dot == std::string::npos ? path : path.substr(dot + 1);
    if (last.empty() || last.find_first_not_of("0123456789") != std::string::npos) return {};
    std::string next =
        (dot == std::string::npos ? std::string() : path.substr(0, dot + 1)) + std::to_string(std::stoi(last) + 1);
    const bool is_node =
        std::any_of(fx_.graph.begin(), fx_.graph.end(), [&](const FxLine& l) { return l.target == next; });
    return state(next + ".running_mean") != nullptr && !is_node ? next : std::string();
  }

  Proxy batch_norm(const std::string& path, const Proxy& x) {
    auto& slot = modules_[path];
    if (slot == nullptr) {
      const nn::Slot at{parent_of(path), path.substr(path.find_last_of('.') + 1)};
      slot = make_batch_norm(at, x, state(path + ".weight"));
      for (const auto& [name, p] : slot->parameters()) {
        const Tensor* t = state(path + "." + name);
        const Status set = t == nullptr ? error(Code::not_found, "no state {}.{}", path, name) : p->set(*t);
        if (!set.ok()) fail(x, std::string(set.message()));
      }
    }
    return (*slot)(x);
  }

  std::string type_of(const std::string& path) const {
    const auto found = types_.find(path);
    return found == types_.end() ? std::string() : found->second;
  }

  std::unique_ptr<nn::Module> make(nn::Slot slot, const std::string& path, const Proxy& x, const FxLine& line) {
    const Tensor* weight = state(path + ".weight");
    const std::string type = type_of(path);
    if (state(path + ".running_mean") != nullptr) return make_batch_norm(std::move(slot), x, weight);
    if (type.find("CustomLinear") != std::string::npos || type == "NonTraceable") {
      return make_part(std::move(slot), path, type);
    }
    if (type == "LSTM" || type == "GRU") return make_recurrent(std::move(slot), path, type, x);
    if (weight != nullptr) return make_weighted(std::move(slot), path, type, *weight, x, line);
    return make_plain(std::move(slot), path, type);
  }

  static std::unique_ptr<nn::Module> make_batch_norm(nn::Slot slot, const Proxy& x, const Tensor* weight) {
    const std::int64_t n = weight->element_count();
    if (x.rank() == 5) return std::make_unique<nn::BatchNorm3d>(std::move(slot), n);
    if (x.rank() == 4) return std::make_unique<nn::BatchNorm2d>(std::move(slot), n);
    return std::make_unique<nn::BatchNorm1d>(std::move(slot), n);
  }

  std::unique_ptr<nn::Module> make_weighted(nn::Slot slot, const std::string& path, const std::string& type,
                                            const Tensor& weight, const Proxy& x, const FxLine& line) {
    const std::vector<std::int64_t>& s = weight.shape();
    const nn::Bias bias = state(path + ".bias") != nullptr ? nn::Bias::with : nn::Bias::without;
    if (type == "Embedding") return std::make_unique<nn::Embedding>(std::move(slot), s[0], s[1]);
    if (type == "EmbeddingBag") {
      return std::make_unique<nn::EmbeddingBag>(std::move(slot), s[0], s[1], bag_mode_);
    }
    if (type == "LayerNorm") return std::make_unique<nn::LayerNorm>(std::move(slot), s);
    if (type == "GroupNorm") return std::make_unique<nn::GroupNorm>(std::move(slot), groups_of(path), s[0]);
    if (type == "PReLU") return std::make_unique<nn::PReLU>(std::move(slot), s[0]);
    if (s.size() == 2) return std::make_unique<nn::Linear>(std::move(slot), s[1], s[0], bias);
    if (s.size() < 3) return nullptr;
    const bool transposed = type.starts_with("ConvTranspose");
    nn::ConvOptions options = conv_options(path, weight, x, line, transposed ? Op::conv_transpose : Op::conv);
    const nn::Sizes kernel(s.begin() + 2, s.end());
    const std::int64_t in = transposed ? s[0] : s[1] * options.groups;
    const std::int64_t out = transposed ? s[1] * options.groups : s[0];
    if (transposed && s.size() == 4) {
      return std::make_unique<nn::ConvTranspose2d>(std::move(slot), in, out, kernel, options, bias);
    }
    if (s.size() == 3) return std::make_unique<nn::Conv1d>(std::move(slot), in, out, kernel, options, bias);
    if (s.size() == 4) return std::make_unique<nn::Conv2d>(std::move(slot), in, out, kernel, options, bias);
    return std::make_unique<nn::Conv3d>(std::move(slot), in, out, kernel, options, bias);
  }

  std::int64_t groups_of(const std::string& path) const {
    // Exported as an instance norm over [N, groups, ...].
    const Node* n = exported_.find(path, Op::instance_norm);
    if (n != nullptr && n->input(0)->type().rank() > 1 && n->input(0)->type().shape[1].is_constant()) {
      return n->input(0)->type().shape[1].constant();
    }
    return 1;
  }

  // From the export; without one, groups by the channels, and the stride and padding that give the recorded size.
  nn::ConvOptions conv_options(const std::string& path, const Tensor& weight, const Proxy& x, const FxLine& line,
                               Op op) const {
    nn::ConvOptions o;
    const std::size_t n = weight.shape().size() - 2;
    if (const Node* found = exported_.find(path, op)) {
      const Attributes& a = found->attributes();
      if (!a.integers("stride").empty()) o.stride = a.integers("stride");
      if (!a.integers("dilation").empty()) o.dilation = a.integers("dilation");
      const nn::Sizes pads = a.integers("pads");
      if (!pads.empty()) o.padding = nn::Sizes(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(n));
      o.groups = a.integer("groups");
      if (op == Op::conv_transpose && !a.integers("output_padding").empty()) {
        o.output_padding = a.integers("output_padding");
      }
      return o;
    }
    if (x.rank() > 1 && x.size(1).is_constant() && weight.shape()[1] > 0) {
      o.groups = std::max<std::int64_t>(1, x.size(1).constant() / weight.shape()[1]);
    }
    const Json& recorded = case_.output_json(("node." + line.name).c_str());
    const Json* shape = recorded.is_object() ? json_find(recorded, "shape") : nullptr;
    if (shape == nullptr || shape->size() != n + 2) return o;
    for (std::int64_t stride = 1; stride <= 4; ++stride) {
      for (std::int64_t padding = 0; padding <= weight.shape()[2] / 2; ++padding) {
        const std::int64_t in = x.size(2).is_constant() ? x.size(2).constant() : 0;
        if ((in + 2 * padding - weight.shape()[2]) / stride + 1 != (*shape)[2].get<std::int64_t>()) continue;
        o.stride = {stride};
        o.padding = {padding};
        return o;
      }
    }
    return o;
  }

  std::unique_ptr<nn::Module> make_plain(nn::Slot slot, const std::string& path, const std::string& type) {
    // What prepare fused away is a relu.
    if (type.empty() || type == "ReLU") return std::make_unique<nn::ReLU>(std::move(slot));
    if (type == "ReLU6") return std::make_unique<nn::ReLU6>(std::move(slot));
    if (type == "Sigmoid") return std::make_unique<nn::Sigmoid>(std::move(slot));
    if (type == "Tanh") return std::make_unique<nn::Tanh>(std::move(slot));
    if (type == "Hardswish") return std::make_unique<nn::Hardswish>(std::move(slot));
    if (type == "Hardsigmoid") return std::make_unique<nn::Hardsigmoid>(std::move(slot));
    if (type == "SiLU") return std::make_unique<nn::SiLU>(std::move(slot));
    if (type == "GELU") return std::make_unique<nn::GELU>(std::move(slot));
    if (type == "Dropout") return std::make_unique<nn::Dropout>(std::move(slot));
    if (type == "InstanceNorm2d") return std::make_unique<nn::InstanceNorm2d>(std::move(slot), 0);
    if (type == "Identity") return std::make_unique<nn::Identity>(std::move(slot));
    if (type == "Flatten") return std::make_unique<nn::Flatten>(std::move(slot));
    if (type == "LeakyReLU")
      return std::make_unique<nn::LeakyReLU>(std::move(slot), real_of(path, Op::leaky_relu, 0.01));
    if (type == "ELU") return std::make_unique<nn::ELU>(std::move(slot), real_of(path, Op::elu, 1));
    if (type == "Hardtanh") {
      const Node* n = exported_.find(path, Op::clamp);
      return std::make_unique<nn::Hardtanh>(std::move(slot), n ? n->attributes().real("min") : -1.0,
                                            n ? n->attributes().real("max") : 1.0);
    }
    if (type == "Softmax") {
      const Node* n = exported_.find(path, Op::softmax);
      return std::make_unique<nn::Softmax>(std::move(slot), n == nullptr ? -1 : n->attributes().integer("axis"));
    }
    if (type.starts_with("AdaptiveAvgPool")) return make_adaptive(std::move(slot), path, type);
    if (type.starts_with("MaxPool") || type.starts_with("AvgPool")) return make_pool(std::move(slot), path, type);
    return nullptr;
  }

  double real_of(const std::string& path, Op op, double otherwise) const {
    const Node* n = exported_.find(path, op);
    return n == nullptr ? otherwise : n->attributes().real("alpha");
  }

  std::unique_ptr<nn::Module> make_adaptive(nn::Slot slot, const std::string&, const std::string& type) {
    if (type == "AdaptiveAvgPool1d") return std::make_unique<nn::AdaptiveAvgPool1d>(std::move(slot), nn::Sizes{1});
    if (type == "AdaptiveAvgPool2d") return std::make_unique<nn::AdaptiveAvgPool2d>(std::move(slot), nn::Sizes{1});
    return std::make_unique<nn::AdaptiveAvgPool3d>(std::move(slot), nn::Sizes{1});
  }

  std::unique_ptr<nn::Module> make_pool(nn::Slot slot, const std::string& path, const std::string& type) {
    const bool is_max = type.starts_with("Max");
    nn::Sizes kernel{2};
    nn::PoolOptions o;
    if (const Node* n = exported_.find(path, is_max ? Op::max_pool : Op::avg_pool)) {
      const Attributes& a = n->attributes();
      kernel = a.integers("kernel");
      o.stride = a.integers("stride").empty() ? nn::Sizes{1} : a.integers("stride");
      const nn::Sizes pads = a.integers("pads");
      if (!pads.empty()) o.padding = nn::Sizes(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(kernel.size()));
      o.ceil_mode = a.boolean("ceil_mode");
      if (!is_max) o.count_include_pad = a.boolean("count_include_pad");
    }
    if (type == "MaxPool1d") return std::make_unique<nn::MaxPool1d>(std::move(slot), kernel, o);
    if (type == "MaxPool2d") return std::make_unique<nn::MaxPool2d>(std::move(slot), kernel, o);
    if (type == "AvgPool1d") return std::make_unique<nn::AvgPool1d>(std::move(slot), kernel, o);
    if (type == "AvgPool2d") return std::make_unique<nn::AvgPool2d>(std::move(slot), kernel, o);
    return nullptr;
  }

  std::unique_ptr<nn::Module> make_recurrent(nn::Slot slot, const std::string& path, const std::string& type,
                                             const Proxy&) {
    const Tensor* hh = state(path + ".weight_hh_l0");
    const Tensor* ih = state(path + ".weight_ih_l0");
    if (hh == nullptr || ih == nullptr) return nullptr;
    nn::RecurrentOptions o;
    while (state(fmt::format("{}.weight_ih_l{}", path, o.layers)) != nullptr) ++o.layers;
    o.bidirectional = state(path + ".weight_ih_l0_reverse") != nullptr;
    o.bias = state(path + ".bias_ih_l0") != nullptr;
    o.batch_first = true;
    if (type == "LSTM") return std::make_unique<nn::LSTM>(std::move(slot), ih->shape()[1], hh->shape()[1], o);
    return std::make_unique<nn::GRU>(std::move(slot), ih->shape()[1], hh->shape()[1], o);
  }

  std::unique_ptr<nn::Module> make_part(nn::Slot slot, const std::string& path, const std::string& type) {
    const char* name = type == "NonTraceable" ? "NonTraceable" : "CustomLinear";
    auto region = std::make_unique<nn::RegionModule>(std::move(slot), name, std::string("model_parts.") + name);
    for (const char* part : {"linear.weight", "linear.bias"}) {
      const Tensor* t = state(path + "." + part);
      if (t != nullptr) region->add_state(part, t->shape());
    }
    return region;
  }

  // ---- functions and methods

  Made function(const FxLine& line) {
    const std::string name = line.short_target();
    const bool is_functional =
        line.target.starts_with("torch.nn.functional") || line.target.starts_with("torch._C._nn");
    const bool is_operator = line.target.starts_with("_operator");
    const Proxy x = proxy(line, 0);
    if (name == "getitem") return item_of(line);
    if (name == "relu") return made(is_functional ? nn::F::relu(x) : nn::relu(x));
    if (name == "sigmoid") return made(is_functional ? nn::F::sigmoid(x) : nn::sigmoid(x));
    if (name == "tanh") return made(is_functional ? nn::F::tanh(x) : nn::tanh(x));
    if (name == "add" || name == "mul" || name == "sub" || name == "truediv")
      return arithmetic(line, name, is_operator);
    if (name == "linear") return made(nn::F::linear(x, proxy(line, 1, "weight"), proxy(line, 2, "bias")));
    if (name == "cat") return made(nn::cat(proxies(line, 0, "tensors"), integer(line, 1, "dim", 0)));
    if (name == "stack") return made(nn::stack(proxies(line, 0, "tensors"), integer(line, 1, "dim", 0)));
    if (name == "flatten")
      return made(nn::flatten(x, integer(line, 1, "start_dim", 0), integer(line, 2, "end_dim", -1)));
    if (name == "matmul") return made(nn::matmul(x, proxy(line, 1, "other")));
    if (name == "bmm") return made(nn::bmm(x, proxy(line, 1, "mat2")));
    if (name == "softmax") {
      const std::int64_t dim = integer(line, 1, "dim", -1);
      return made(is_functional ? nn::F::softmax(x, dim) : nn::softmax(x, dim));
    }
    if (name == "mean")
      return made(nn::mean(x, sizes_of(argument(line, 1, "dim")), integer(line, 2, "keepdim", 0) != 0));
    if (name.find("pool") != std::string::npos) return pool(line, name);
    if (name == "chunk") return chunks(line);
    if (name == "dropout") return made(nn::F::dropout(x));
    return simple(line, name, x);
  }

  Made simple(const FxLine& line, const std::string& name, const Proxy& x) {
    if (name == "sin") return made(nn::sin(x));
    if (name == "cos") return made(nn::cos(x));
    if (name == "exp") return made(nn::exp(x));
    if (name == "abs") return made(nn::abs(x));
    if (name == "sqrt") return made(nn::sqrt(x));
    if (name == "log_softmax") return made(nn::F::log_softmax(x, integer(line, 1, "dim", -1)));
    if (name == "hardswish") return made(nn::F::hardswish(x));
    if (name == "hardsigmoid") return made(nn::F::hardsigmoid(x));
    if (name == "relu6") return made(nn::F::relu6(x));
    if (name == "gelu") return made(nn::F::gelu(x));
    if (name == "silu") return made(nn::F::silu(x));
    if (name == "leaky_relu") return made(nn::F::leaky_relu(x, real(line, 1, "negative_slope", 0.01)));
    if (name == "elu") return made(nn::F::elu(x, real(line, 1, "alpha", 1)));
    if (name == "hardtanh") return made(nn::F::hardtanh(x, real(line, 1, "min_val", -1), real(line, 2, "max_val", 1)));
    if (name == "clamp") return made(nn::clamp(x, real(line, 1, "min", -INFINITY), real(line, 2, "max", INFINITY)));
    fail(x, "function " + line.target + " is not known to the golden program");
    return made({x.tracer(), nullptr});
  }

  Made arithmetic(const FxLine& line, const std::string& name, bool is_operator) {
    const Made a = argument(line, 0, "input"), b = argument(line, 1, "other");
    if (a.kind == Made::Kind::dim || b.kind == Made::Kind::dim || a.kind != Made::Kind::proxy) {
      if (b.kind == Made::Kind::proxy) {
        if (name == "add") return made(a.number + b.proxy);
        if (name == "mul") return made(a.number * b.proxy);
        if (name == "sub") return made(a.number - b.proxy);
        return made(a.number / b.proxy);
      }
      Made m;
      m.kind = Made::Kind::dim;
      m.dim = name == "mul" ? dim_of(a) * dim_of(b) : dim_of(a) + dim_of(b);
      return m;
    }
    if (b.kind == Made::Kind::number) {
      if (name == "add") return made(a.proxy + b.number);
      if (name == "mul") return made(a.proxy * b.number);
      if (name == "sub") return made(a.proxy - b.number);
      return made(a.proxy / b.number);
    }
    if (name == "add") return made(is_operator ? a.proxy + b.proxy : nn::add(a.proxy, b.proxy));
    if (name == "mul") return made(is_operator ? a.proxy * b.proxy : nn::mul(a.proxy, b.proxy));
    if (name == "sub") return made(a.proxy - b.proxy);
    return made(a.proxy / b.proxy);
  }

  Proxies proxies(const FxLine& line, std::size_t at, const char* key) const {
    Proxies out;
    for (const Made& m : argument(line, at, key).list) out.push_back(m.proxy);
    return out;
  }

  Made pool(const FxLine& line, const std::string& name) {
    const Proxy x = proxy(line, 0);
    const nn::Sizes kernel = sizes_of(argument(line, 1, "kernel_size"));
    if (name.starts_with("adaptive_avg_pool"))
      return made(nn::F::adaptive_avg_pool(x, sizes_of(argument(line, 1, "output_size"))));
    nn::PoolOptions o;
    const Made stride = argument(line, 2, "stride"), padding = argument(line, 3, "padding");
    if (stride.kind != Made::Kind::none && !(stride.kind == Made::Kind::list && stride.list.empty()))
      o.stride = sizes_of(stride);
    if (padding.kind != Made::Kind::none) o.padding = sizes_of(padding);
    return made(name.starts_with("max") ? nn::F::max_pool(x, kernel, o) : nn::F::avg_pool(x, kernel, o));
  }

  Made chunks(const FxLine& line) {
    Made m;
    m.kind = Made::Kind::list;
    const std::int64_t parts = integer(line, 1, "chunks", 1), dim = integer(line, 2, "dim", 0);
    for (Proxy& p :
         line.op == "call_method" ? proxy(line, 0).chunk(parts, dim) : nn::chunk(proxy(line, 0), parts, dim)) {
      m.list.push_back(made(std::move(p)));
    }
    return m;
  }

  Made size_of(const FxLine& line) {
    const Proxy x = proxy(line, 0);
    Made m;
    if (line.args.size() > 1) {
      m.kind = Made::Kind::dim;
      m.dim = x.size(integer(line, 1, "dim", 0));
      return m;
    }
    m.kind = Made::Kind::list;
    for (const Dim& d : x.sizes()) {
      Made one;
      one.kind = Made::Kind::dim;
      one.dim = d;
      m.list.push_back(std::move(one));
    }
    return m;
  }

  Made item_of(const FxLine& line) {
    const Made from = value(line.args[0]);
    if (from.kind == Made::Kind::list) {
      auto at = static_cast<std::int64_t>(line.args[1].number);
      if (at < 0) at += static_cast<std::int64_t>(from.list.size());
      return from.list[static_cast<std::size_t>(at)];
    }
    std::vector<nn::Index> index;
    const std::vector<Item> entries = line.args[1].text == "slice" || line.args[1].items.empty()
                                          ? std::vector<Item>{line.args[1]}
                                          : line.args[1].items;
    for (const Item& e : entries) index.push_back(index_of(e));
    Proxy x = from.proxy;
    // One entry after the other: the number of braces is not known here.
    nn::Tracer::Unit unit(x.tracer(), "operator.getitem");
    return made(apply(x, index));
  }
  static nn::Index index_of(const Item& e) {
    if (e.kind == Item::Kind::none) return nn::Index::new_axis();
    if (e.text != "slice") return {static_cast<std::int64_t>(e.number)};
    auto bound = [&](std::size_t i) {
      return i < e.items.size() && e.items[i].kind == Item::Kind::number
                 ? std::optional<std::int64_t>(static_cast<std::int64_t>(e.items[i].number))
                 : std::nullopt;
    };
    return nn::Index::slice(bound(0), bound(1), bound(2).value_or(1));
  }
  static Proxy apply(const Proxy& x, const std::vector<nn::Index>& i) {
    switch (i.size()) {
      case 1:
        return x[{i[0]}];
      case 2:
        return x[{i[0], i[1]}];
      case 3:
        return x[{i[0], i[1], i[2]}];
      default:
        return x[{i[0], i[1], i[2], i[3]}];
    }
  }

  Made method(const FxLine& line) {
    const std::string& name = line.target;
    const Proxy x = proxy(line, 0);
    auto rest = [&] {
      if (line.args.size() == 2) return shape_of(value(line.args[1]));
      nn::Shape out;
      for (std::size_t i = 1; i < line.args.size(); ++i) out.push_back(dim_of(value(line.args[i])));
      return out;
    };
    auto numbers = [&] {
      nn::Sizes out;
      for (const Dim& d : rest()) out.push_back(d.is_constant() ? d.constant() : 0);
      return out;
    };
    if (name == "view") return made(x.view(rest()));
    if (name == "reshape") return made(x.reshape(rest()));
    if (name == "permute") return made(x.permute(numbers()));
    if (name == "transpose") return made(x.transpose(integer(line, 1, "dim0", 0), integer(line, 2, "dim1", 1)));
    if (name == "flatten") return made(x.flatten(integer(line, 1, "start_dim", 0), integer(line, 2, "end_dim", -1)));
    if (name == "mean") return made(x.mean(sizes_of(argument(line, 1, "dim")), integer(line, 2, "keepdim", 0) != 0));
    if (name == "relu") return made(x.relu());
    if (name == "sigmoid") return made(x.sigmoid());
    if (name == "tanh") return made(x.tanh());
    if (name == "softmax") return made(x.softmax(integer(line, 1, "dim", -1)));
    if (name == "contiguous") return made(x.contiguous());
    if (name == "unsqueeze") return made(x.unsqueeze(integer(line, 1, "dim", 0)));
    if (name == "squeeze") return made(x.squeeze(integer(line, 1, "dim", 0)));
    if (name == "clamp") return made(x.clamp(real(line, 1, "min", -INFINITY), real(line, 2, "max", INFINITY)));
    if (name == "matmul") return made(x.matmul(proxy(line, 1, "other")));
    if (name == "chunk") return chunks(line);
    if (name == "size") return size_of(line);
    fail(x, "method " + name + " is not known to the golden program");
    return made({x.tracer(), nullptr});
  }

  const Case& case_;
  const FxCase& fx_;
  const Exported exported_;
  const std::string bag_mode_;
  std::map<std::string, std::string> types_;
  std::map<std::string, Made> values_;
  std::map<std::string, std::unique_ptr<nn::Module>> containers_, modules_;
  std::map<std::string, std::unique_ptr<nn::Parameter>> attributes_;
};

// What prepare made, without observers.
std::vector<FxLine> without_observers(const std::vector<FxLine>& lines) {
  std::map<std::string, std::string> stands_for;
  std::vector<FxLine> out;
  auto rename = [&](Item& item, auto& self) -> void {
    if (item.kind == Item::Kind::name && stands_for.contains(item.text)) item.text = stands_for[item.text];
    for (Item& inner : item.items) self(inner, self);
  };
  for (FxLine line : lines) {
    for (Item& item : line.args) rename(item, rename);
    if (line.name.starts_with("activation_post_process")) {
      stands_for[line.name] = line.nodes()[0];
    } else {
      out.push_back(std::move(line));
    }
  }
  return out;
}

}  // namespace

Result<std::string> golden_text(const Case& c, const std::string& name) {
  AOQ_ASSIGN(const std::string folder, json_string(c.args(), "directory"));
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file, MappedFile::open(c.directory() + "/" + folder + "/" + name));
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
}

Result<FxCase> read_fx_case(const Case& c) {
  FxCase fx;
  AOQ_ASSIGN(std::string text, golden_text(c, "graph_float.txt"));
  fx.is_whole = !text.starts_with("the model cannot be traced");
  if (!fx.is_whole) {
    AOQ_ASSIGN(text, golden_text(c, "graph_prepared.txt"));
  }
  AOQ_ASSIGN(fx.graph, parse_fx(text));
  if (!fx.is_whole) fx.graph = without_observers(fx.graph);
  AOQ_ASSIGN(const std::string modules, golden_text(c, "modules_prepared.txt"));
  AOQ_ASSIGN(fx.prepared_modules, parse_modules(modules));
  for (const auto& [key, info] : c.inputs_json().items()) {
    if (!key.starts_with("state.")) continue;
    AOQ_ASSIGN(Tensor t, c.tensor(info));
    fx.state.emplace(key.substr(6), std::move(t));
  }
  for (const Json& batch : c.input_json("calibration")) {
    std::vector<Tensor> tensors;
    for (const Json& info : batch) {
      AOQ_ASSIGN(Tensor t, c.tensor(info));
      tensors.push_back(std::move(t));
    }
    fx.calibration.push_back(std::move(tensors));
  }
  AOQ_ASSIGN(fx.test, c.inputs("test"));
  return fx;
}

Result<Graph> trace_fx_case(const Case& c, const FxCase& fx, const std::string& bag_mode) {
  AOQ_TRY(register_model_parts());
  TextModel model(c, fx, bag_mode);
  std::vector<nn::TraceInput> inputs;
  for (const FxLine& line : fx.graph) {
    if (line.op != "placeholder") continue;
    if (inputs.size() >= fx.calibration[0].size()) return error(Code::invalid_data, "more placeholders than inputs");
    const Tensor& example = fx.calibration[0][inputs.size()];
    Type type;
    type.dtype = example.dtype();
    for (std::int64_t d : example.shape()) type.shape.emplace_back(d);
    inputs.push_back({line.target, std::move(type)});
  }
  return nn::symbolic_trace(model, inputs, [&](std::span<const Proxy> in) { return model.run(in); });
}

}  // namespace aoq::golden
