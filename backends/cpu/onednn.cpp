#include "backends/cpu/onednn.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "backends/cpu/onednn_library.h"
#include "backends/cpu/rows/conv_nodes.h"
#include "runtime/computed_constant.h"

// libgomp, which libdnnl runs on. Not through omp.h: nothing of ours is compiled for OpenMP.
extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int threads);
}

namespace aoq::cpu {
namespace {

using Memory = dnnl::memory;
using MemoryDims = dnnl::memory::dims;
constexpr auto kF32 = Memory::data_type::f32;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// One OpenMP thread for a while on this thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  int before_;
};

// A primitive with everything that its execution needs but the pointers of the run.
struct Slice {
  dnnl::primitive primitive;
  Memory::desc source, target, scratchpad;
  Memory weights, bias;  // reordered copies of our own
};

// The memory objects of one execution of one slice.
struct Arguments {
  explicit Arguments(const Slice& slice)
      : stream(engine()),
        source(slice.source, engine(), nullptr),
        target(slice.target, engine(), nullptr),
        scratchpad(slice.scratchpad, engine(), nullptr) {}
  dnnl::stream stream;
  Memory source, target, scratchpad;
};

struct Buffers {
  const float* source;
  float* target;
  std::byte* scratchpad;
};

// The C functions: they neither throw nor build a map of arguments.
bool execute(const Slice& slice, Arguments& a, const Buffers& buffers) {
  bool is_set = dnnl_memory_set_data_handle(a.source.get(), const_cast<float*>(buffers.source)) == dnnl_success &&
                dnnl_memory_set_data_handle(a.target.get(), buffers.target) == dnnl_success &&
                dnnl_memory_set_data_handle(a.scratchpad.get(), buffers.scratchpad) == dnnl_success;
  if (!is_set) return false;
  dnnl_exec_arg_t arguments[5] = {{DNNL_ARG_SRC, a.source.get()},
                                  {DNNL_ARG_WEIGHTS, slice.weights.get()},
                                  {DNNL_ARG_DST, a.target.get()},
                                  {DNNL_ARG_SCRATCHPAD, a.scratchpad.get()}};
  int count = 4;
  if (slice.bias.get(true) != nullptr) arguments[count++] = {DNNL_ARG_BIAS, slice.bias.get()};
  return dnnl_primitive_execute(slice.primitive.get(), a.stream.get(), count, arguments) == dnnl_success;
}

// A slice and its sets of memory objects: as many as workers. A run that finds none free makes one more, which later
// runs find: there are as many as ever ran at once, in several sessions or on several slices of a batch.
class SliceRunner {
 public:
  SliceRunner(Slice slice, int workers) : slice_(std::move(slice)) {
    for (int i = 0; i < workers; ++i) add(std::make_unique<Set>(slice_));
  }
  SliceRunner(const SliceRunner&) = delete;
  SliceRunner& operator=(const SliceRunner&) = delete;
  ~SliceRunner() {
    for (Set* set = sets_.load(); set != nullptr;) delete std::exchange(set, set->next);
  }
  std::uint64_t scratch_bytes() const {
    return static_cast<std::uint64_t>(bytes_to_cache_line(static_cast<std::int64_t>(slice_.scratchpad.get_size())));
  }

  bool run(const Buffers& buffers) const {
    Set* set = sets_.load(std::memory_order_acquire);
    while (set != nullptr && set->taken.test_and_set(std::memory_order_acquire)) set = set->next;
    if (set == nullptr) set = add_taken();
    if (set == nullptr) return false;
    const bool done = execute(slice_, set->arguments, buffers);
    set->taken.clear(std::memory_order_release);
    return done;
  }

 private:
  struct Set {
    explicit Set(const Slice& slice) : arguments(slice) {}
    std::atomic_flag taken;
    Arguments arguments;
    Set* next = nullptr;
  };
  Set* add(std::unique_ptr<Set> made) const {
    Set* const set = made.release();
    set->next = sets_.load(std::memory_order_relaxed);
    while (!sets_.compare_exchange_weak(set->next, set, std::memory_order_release, std::memory_order_relaxed)) {
    }
    return set;
  }
  Set* add_taken() const {
    try {
      auto made = std::make_unique<Set>(slice_);
      made->taken.test_and_set();
      return add(std::move(made));
    } catch (const dnnl::error&) {
      return nullptr;
    }
  }

  Slice slice_;
  // A list that only grows, owned; one user at a time of each set, by `taken`.
  mutable std::atomic<Set*> sets_ = nullptr;
};

// A unit of work: a slice at a place.
struct Unit {
  std::size_t slice;
  std::int64_t source, target, elements;  // offsets and size of the target in floats
};

KernelResult unit_kernel(const PrepareContext& context, std::vector<std::unique_ptr<SliceRunner>> slices,
                         std::vector<Unit> units, std::int64_t unit_cost) {
  std::uint64_t scratch = 0;
  for (const std::unique_ptr<SliceRunner>& s : slices) scratch = std::max(scratch, s->scratch_bytes());
  Split split = split_work(static_cast<std::int64_t>(units.size()), unit_cost, context);
  bool has_residual = context.node.input(3) != nullptr && !context.node.is(Op::conv_transpose);
  KernelNeeds needs{.scratch_bytes = scratch * static_cast<std::uint64_t>(split.workers),
                    .in_place_input = has_residual ? 3 : -1};
  return make_kernel(
      [slices = std::move(slices), units = std::move(units), split, scratch,
       has_residual](const RunContext& c) -> Status {
        std::atomic<bool> failed = false;
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          OneThread one_thread;
          for (std::int64_t u = begin; u < end; ++u) {
            const Unit& unit = units[static_cast<std::size_t>(u)];
            float* target = output_of<float>(c) + unit.target;
            const float* residual = has_residual ? input_of<float>(c, 3) + unit.target : target;
            // The sum is taken with what the target holds.
            if (residual != target) std::memcpy(target, residual, static_cast<std::size_t>(unit.elements) * 4);
            bool done = slices[unit.slice]->run({input_of<float>(c, 0) + unit.source, target,
                                                 c.scratch + scratch * static_cast<std::uint64_t>(worker)});
            if (!done) failed.store(true, std::memory_order_relaxed);
          }
        });
        if (failed.load()) return error(Code::internal, "oneDNN failed to run a primitive");
        return {};
      },
      needs);
}

Result<dnnl::primitive_attr> attributes_of(const PrepareContext& context) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (context.node.is(Op::conv_transpose)) return attributes;
  AOQ_ASSIGN(ActivationParams activation, activation_of(context.attributes));
  dnnl::post_ops post;
  if (context.node.input(3) != nullptr) post.append_sum(1.0f);
  if (activation.kind == Activation::clamp) {
    bool is_relu = context.attributes.string("activation") == "relu";
    post.append_eltwise(is_relu ? dnnl::algorithm::eltwise_relu : dnnl::algorithm::eltwise_clip,
                        is_relu ? 0.0f : activation.a, activation.b);
  } else if (activation.kind != Activation::none) {
    return refuse("oneDNN's form of this activation is not ours");
  }
  attributes.set_post_ops(post);
  return attributes;
}

// Copies plain data into a memory object of our own in the layout that a primitive wants.
Memory reordered(const Memory::desc& plain, const float* data, const Memory::desc& wanted) {
  OneThread one_thread;
  Memory from(plain, engine(), const_cast<float*>(data));
  Memory to(wanted, engine());
  dnnl::stream stream(engine());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
  return to;
}

// Plain weights and bias of a node.
struct Constants {
  Memory::desc weights;
  const float* weight_data = nullptr;
  std::vector<float> bias;
};

template <typename Description>
Result<Slice> make_slice_of(const Description& description, const Constants& constants) {
  std::string name = description.impl_info_str();
  if (name.find("ref") != std::string::npos) return refuse("oneDNN has only its reference ({}) for this", name);
  Slice slice;
  slice.primitive = dnnl::primitive(description.get());
  slice.source = description.src_desc();
  slice.target = description.dst_desc();
  slice.scratchpad = description.scratchpad_desc();
  slice.weights = reordered(constants.weights, constants.weight_data, description.weights_desc());
  if (!constants.bias.empty()) {
    Memory::desc plain({static_cast<std::int64_t>(constants.bias.size())}, kF32, Memory::format_tag::a);
    slice.bias = reordered(plain, constants.bias.data(), plain);
  }
  return slice;
}

Memory::desc bias_desc(const Constants& constants) {
  if (constants.bias.empty()) return {};
  return {{static_cast<std::int64_t>(constants.bias.size())}, kF32, Memory::format_tag::a};
}

// ---- convolution

// Output rows [begin, end) of an image, the input rows that they read, and the padding that is left.
struct Band {
  std::int64_t out_begin, out_end, in_begin, in_end, pad_top, pad_bottom;
};

Band band_of(const ConvDims& d, std::int64_t out_begin, std::int64_t out_end) {
  std::int64_t first = out_begin * d.stride_h - d.pad_top;
  std::int64_t last = (out_end - 1) * d.stride_h - d.pad_top + d.dilation_h * (d.kernel_h - 1);
  Band band{out_begin, out_end, std::max<std::int64_t>(first, 0), std::min(last + 1, d.in_h), 0, 0};
  band.pad_top = band.in_begin - first;
  band.pad_bottom = last + 1 - band.in_end;
  return band;
}

Memory::desc conv_weights_desc(const ConvDims& d) {
  std::int64_t in = d.in_c / d.groups, out = d.out_c / d.groups;
  if (d.groups == 1) return {{out, in, d.kernel_h, d.kernel_w}, kF32, Memory::format_tag::oihw};
  return {{d.groups, out, in, d.kernel_h, d.kernel_w}, kF32, Memory::format_tag::goihw};
}

Result<Slice> conv_band(const ConvDims& d, const Band& band, const Constants& constants,
                        const dnnl::primitive_attr& attributes) {
  Memory::desc x({1, d.in_c, band.in_end - band.in_begin, d.in_w}, kF32, Memory::format_tag::nhwc);
  Memory::desc y({1, d.out_c, band.out_end - band.out_begin, d.out_w}, kF32, Memory::format_tag::nhwc);
  Memory::desc any(constants.weights.get_dims(), kF32, Memory::format_tag::any);
  std::int64_t right = (d.out_w - 1) * d.stride_w + d.dilation_w * (d.kernel_w - 1) + 1 - d.in_w - d.pad_left;
  dnnl::convolution_forward::primitive_desc description(
      engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, any, bias_desc(constants),
      y, {d.stride_h, d.stride_w}, {d.dilation_h - 1, d.dilation_w - 1}, {band.pad_top, d.pad_left},
      {band.pad_bottom, right}, attributes, true);
  if (description.get(true) == nullptr) return refuse("oneDNN has no implementation for this convolution");
  return make_slice_of(description, constants);
}

Result<Constants> constants_of(const PrepareContext& context, std::int64_t channels) {
  Constants constants;
  if (const Tensor* weights = constant_input(context, 1)) {
    constants.weight_data = weights->as<float>().data();
  } else if (is_computed_constant(*context.node.input(1)->def())) {
    AOQ_ASSIGN(std::span<const std::byte> bytes, context.store.packed(*context.node.input(1), ""));
    constants.weight_data = reinterpret_cast<const float*>(bytes.data());
  } else {
    return refuse("the weight is not a plain constant");
  }
  AOQ_ASSIGN(constants.bias, float_constants(context, 2, channels));
  return constants;
}

std::int64_t products_of(const ConvDims& d) {
  return d.batch * d.out_h * d.out_w * d.out_c * d.kernel_h * d.kernel_w * (d.in_c / d.groups);
}

KernelResult conv_kernel(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  AOQ_ASSIGN(ConvDims d, conv_dims(context));
  if (d.batch * d.out_h * d.out_w == 0) return refuse("the result is empty");
  AOQ_ASSIGN(dnnl::primitive_attr attributes, attributes_of(context));
  AOQ_ASSIGN(Constants constants, constants_of(context, d.out_c));
  constants.weights = conv_weights_desc(d);
  std::int64_t wanted = std::max<std::int64_t>(context.workers / d.batch, 1);
  std::int64_t bands = std::min(d.out_h, wanted);
  std::vector<std::unique_ptr<SliceRunner>> slices;
  std::vector<Unit> units;
  for (std::int64_t b = 0; b < bands; ++b) {
    Band band = band_of(d, d.out_h * b / bands, d.out_h * (b + 1) / bands);
    if (band.in_end <= band.in_begin) return refuse("a slice lies in the padding");
    AOQ_ASSIGN(Slice slice, conv_band(d, band, constants, attributes));
    slices.push_back(std::make_unique<SliceRunner>(std::move(slice), context.workers));
    for (std::int64_t n = 0; n < d.batch; ++n) {
      units.push_back({static_cast<std::size_t>(b), (n * d.in_h + band.in_begin) * d.in_w * d.in_c,
                       (n * d.out_h + band.out_begin) * d.out_w * d.out_c,
                       (band.out_end - band.out_begin) * d.out_w * d.out_c});
    }
  }
  auto count = static_cast<std::int64_t>(units.size());
  return unit_kernel(context, std::move(slices), std::move(units), products_of(d) / 8 / count + 1);
}

// Slices are images: a slice of an image would need rows of its neighbours.
KernelResult conv_transpose_kernel(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  const Attributes& a = context.attributes;
  if (!a.boolean("channels_last")) return refuse("the kernel reads channels last");
  const std::vector<std::int64_t>& x = context.inputs[0].shape;
  const std::vector<std::int64_t>& w = context.inputs[1].shape;
  const std::vector<std::int64_t>& y = context.outputs[0].shape;
  std::size_t spatial = x.size() - 2;
  if (spatial > 2 || element_count(x) == 0 || element_count(y) == 0)
    return refuse("the kernel takes one or two dimensions");
  HeightWidth stride = window_attribute(a, "stride", spatial, 1);
  HeightWidth dilation = window_attribute(a, "dilation", spatial, 1);
  HeightWidth pads = window_attribute(a, "pads", spatial, 0);
  std::int64_t groups = a.integer("groups");
  std::int64_t kh = spatial == 2 ? w[2] : 1, kw = w.back();
  std::int64_t in_h = spatial == 2 ? x[1] : 1, in_w = x[spatial];
  std::int64_t out_h = spatial == 2 ? y[1] : 1, out_w = y[spatial];
  std::int64_t in = x.back() / groups, out = w[1];
  AOQ_ASSIGN(dnnl::primitive_attr attributes, attributes_of(context));
  AOQ_ASSIGN(Constants constants, constants_of(context, y.back()));
  // Ours is [I, O / groups, k...], oneDNN's order of dimensions is O, I.
  constants.weights = groups == 1 ? Memory::desc({out, in, kh, kw}, kF32, MemoryDims{kh * kw, out * kh * kw, kw, 1})
                                  : Memory::desc({groups, out, in, kh, kw}, kF32,
                                                 MemoryDims{in * out * kh * kw, kh * kw, out * kh * kw, kw, 1});
  std::int64_t bottom = (in_h - 1) * stride.h + dilation.h * (kh - 1) + 1 - pads.h - out_h;
  std::int64_t right = (in_w - 1) * stride.w + dilation.w * (kw - 1) + 1 - pads.w - out_w;
  if (bottom < 0 || right < 0) return refuse("the result reaches past the last window");
  Memory::desc source({1, x.back(), in_h, in_w}, kF32, Memory::format_tag::nhwc);
  Memory::desc target({1, y.back(), out_h, out_w}, kF32, Memory::format_tag::nhwc);
  Memory::desc any(constants.weights.get_dims(), kF32, Memory::format_tag::any);
  dnnl::deconvolution_forward::primitive_desc description(
      engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, source, any,
      bias_desc(constants), target, {stride.h, stride.w}, {dilation.h - 1, dilation.w - 1}, {pads.h, pads.w},
      {bottom, right}, attributes, true);
  if (description.get(true) == nullptr) return refuse("oneDNN has no implementation for this deconvolution");
  AOQ_ASSIGN(Slice slice, make_slice_of(description, constants));
  std::vector<std::unique_ptr<SliceRunner>> slices;
  slices.push_back(std::make_unique<SliceRunner>(std::move(slice), context.workers));
  std::vector<Unit> units;
  std::int64_t from = in_h * in_w * x.back(), to = out_h * out_w * y.back();
  for (std::int64_t n = 0; n < x[0]; ++n) units.push_back({0, n * from, n * to, to});
  return unit_kernel(context, std::move(slices), std::move(units), from * out * kh * kw / 8 + 1);
}

KernelResult linear_kernel(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  AOQ_ASSIGN(ConvDims d, conv_dims(context));
  std::int64_t rows = d.out_h * d.out_w * d.batch, depth = d.in_c, columns = d.out_c;
  if (rows < 2 * context.workers) return refuse("{} rows are too few to split", rows);
  AOQ_ASSIGN(dnnl::primitive_attr attributes, attributes_of(context));
  AOQ_ASSIGN(Constants constants, constants_of(context, columns));
  constants.weights = {{depth, columns}, kF32, MemoryDims{1, depth}};
  std::vector<std::unique_ptr<SliceRunner>> slices;
  std::vector<Unit> units;
  std::vector<std::int64_t> sizes;  // rows of every slice: at most two different ones
  for (std::int64_t w = 0; w < context.workers; ++w) {
    std::int64_t begin = rows * w / context.workers, size = rows * (w + 1) / context.workers - begin;
    auto found = std::find(sizes.begin(), sizes.end(), size);
    auto index = static_cast<std::size_t>(found - sizes.begin());
    if (found == sizes.end()) {
      Memory::desc x({size, depth}, kF32, Memory::format_tag::ab);
      Memory::desc y({size, columns}, kF32, Memory::format_tag::ab);
      Memory::desc any({depth, columns}, kF32, Memory::format_tag::any);
      Memory::desc bias;
      if (!constants.bias.empty()) bias = {{1, columns}, kF32, Memory::format_tag::ab};
      dnnl::matmul::primitive_desc description(engine(), x, any, bias, y, attributes, true);
      if (description.get(true) == nullptr) return refuse("oneDNN has no implementation for this product");
      AOQ_ASSIGN(Slice slice, make_slice_of(description, constants));
      if (!constants.bias.empty()) slice.bias = reordered(bias, constants.bias.data(), bias);
      slices.push_back(std::make_unique<SliceRunner>(std::move(slice), context.workers));
      sizes.push_back(size);
    }
    units.push_back({index, begin * depth, begin * columns, size * columns});
  }
  return unit_kernel(context, std::move(slices), std::move(units), rows * depth * columns / 8 / context.workers + 1);
}

// oneDNN reports by exceptions; they end here. A primitive keeps the number of threads that it was made with, and then
// starts them whatever the worker's limit is: it must be made with one.
KernelResult guarded(KernelResult (*make)(const PrepareContext&), const PrepareContext& context) {
  AOQ_TRY(load_onednn());
  OneThread one_thread;
  try {
    return make(context);
  } catch (const dnnl::error& e) {
    return refuse("oneDNN: {}", e.what());
  }
}

}  // namespace

KernelResult make_conv_onednn(const PrepareContext& context) {
  return guarded(conv_kernel, context);
}

KernelResult make_conv_narrow_onednn(const PrepareContext& context) {
  AOQ_ASSIGN(ConvDims d, conv_dims(context));
  std::int64_t outputs = d.out_c / d.groups;
  std::int64_t products = d.in_c / d.groups * d.kernel_h * d.kernel_w;
  // Of AVX-512 our kernel pays for half a panel only what it uses of it.
  bool has_waste = best_isa() < Isa::avx512_vnni && outputs < 64 && outputs % 16 != 0;
  bool is_narrow = !is_depthwise(d) && (products <= 32 || has_waste);
  if (!is_narrow) return refuse("our own kernel is as fast for this many channels");
  return guarded(conv_kernel, context);
}

KernelResult make_conv_transpose_onednn(const PrepareContext& context) {
  return guarded(conv_transpose_kernel, context);
}

KernelResult make_linear_onednn(const PrepareContext& context) {
  return guarded(linear_kernel, context);
}

}  // namespace aoq::cpu
