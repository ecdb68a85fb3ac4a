#include "formats/onnx/wire.h"

#include <protozero/pbf_reader.hpp>

#include "ir/error_id.h"

namespace aoq::onnx {

namespace {

using protozero::pbf_wire_type;
using Reader = protozero::pbf_reader;

// Leaves the decoder from any depth; caught in this file only, like protozero's own exceptions.
struct Refused {
  Status status;
};

[[noreturn]] void refuse(Code code, std::string message) {
  if (code == Code::invalid_model) throw Refused{Status(ErrorId::onnx_malformed, std::move(message))};
  if (code == Code::resource_limit) throw Refused{Status(ErrorId::limit, std::move(message))};
  throw Refused{Status(code, std::move(message))};
}

// Reads fields of one message. A field of the wrong wire type is malformed; protozero itself would only assert.
class Decoder {
 public:
  Decoder(std::size_t file_size, const Limits& limits) : limits_(limits), file_size_(file_size) {}

  void model(Reader r, ModelProto& m) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          m.ir_version = integer(r);
          break;
        case 2:
          m.producer_name = text(r);
          break;
        case 3:
          m.producer_version = text(r);
          break;
        case 4:
          m.domain = text(r);
          break;
        case 5:
          m.model_version = integer(r);
          break;
        case 6:
          m.doc = text(r);
          break;
        case 7:
          if (m.has_graph) refuse(Code::invalid_model, "the model has two graphs");
          m.has_graph = true;
          graph(message(r), m.graph);
          break;
        case 8:
          opset(message(r), m.opsets.emplace_back());
          break;
        case 14:
          string_pair(message(r), m.metadata.emplace_back());
          break;
        case 25:
          m.functions.push_back(function_name(message(r)));
          break;
        default:
          r.skip();
      }
    }
    if (file_size_ - contents_ > limits_.metadata_bytes) {
      refuse(Code::resource_limit, fmt::format("{} bytes besides tensor contents, at most {} are allowed",
                                               file_size_ - contents_, limits_.metadata_bytes));
    }
  }

  void tensor(Reader r, TensorProto& t) {
    Depth depth(*this);
    count(tensors_, limits_.tensors, "tensors");
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          integers(r, t.dims);
          break;
        case 2:
          t.data_type = static_cast<std::int32_t>(integer(r));
          break;
        case 3:
          refuse(Code::unsupported, "a tensor is stored in segments");
        case 4:
          reals(r, t.float_data);
          break;
        case 5:
          integers(r, t.int32_data);
          break;
        case 6:
          bytes(r);
          ++t.string_count;
          break;
        case 7:
          integers(r, t.int64_data);
          break;
        case 8:
          t.name = name(r);
          break;
        case 9:
          t.raw_data = bytes(r);
          t.has_raw_data = true;
          contents_ += t.raw_data.size();
          break;
        case 10:
          doubles(r, t.double_data);
          break;
        case 11:
          integers(r, t.uint64_data);
          break;
        case 13:
          string_pair(message(r), t.external_data.emplace_back());
          break;
        case 14:
          t.is_external = integer(r) == 1;
          break;
        default:
          r.skip();
      }
    }
  }

 private:
  struct Depth {
    explicit Depth(Decoder& d) : decoder(d) {
      if (++decoder.depth_ > decoder.limits_.depth) {
        refuse(Code::resource_limit, fmt::format("messages are nested deeper than {}", decoder.limits_.depth));
      }
    }
    ~Depth() { --decoder.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    Decoder& decoder;
  };

  static void count(std::uint64_t& counter, std::uint64_t limit, const char* what) {
    if (++counter > limit) refuse(Code::resource_limit, fmt::format("more than {} {}", limit, what));
  }

  static void expect(const Reader& r, pbf_wire_type type) {
    if (r.wire_type() != type) {
      refuse(Code::invalid_model, fmt::format("field {} has wire type {}, expected {}", r.tag(),
                                              static_cast<int>(r.wire_type()), static_cast<int>(type)));
    }
  }
  static std::int64_t integer(Reader& r) {
    expect(r, pbf_wire_type::varint);
    return r.get_int64();
  }
  static float real(Reader& r) {
    expect(r, pbf_wire_type::fixed32);
    return r.get_float();
  }
  static std::string_view bytes(Reader& r) {
    expect(r, pbf_wire_type::length_delimited);
    protozero::data_view v = r.get_view();
    return {v.data(), v.size()};
  }
  static std::string_view text(Reader& r) { return bytes(r); }
  static Reader message(Reader& r) {
    expect(r, pbf_wire_type::length_delimited);
    return r.get_message();
  }
  std::string_view name(Reader& r) const {
    std::string_view v = bytes(r);
    if (v.size() > limits_.name_bytes) {
      refuse(Code::resource_limit,
             fmt::format("a name of {} bytes, at most {} are allowed", v.size(), limits_.name_bytes));
    }
    if (v.find('\0') != std::string_view::npos) refuse(Code::invalid_model, "a name contains a zero byte");
    return v;
  }

  // Repeated numbers come packed or one by one, as the writer liked.
  template <class T>
  void integers(Reader& r, std::vector<T>& out) {
    if (r.wire_type() == pbf_wire_type::varint) {
      out.push_back(static_cast<T>(r.get_int64()));
      return;
    }
    expect(r, pbf_wire_type::length_delimited);
    for (std::int64_t v : r.get_packed_int64()) out.push_back(static_cast<T>(v));
  }
  void reals(Reader& r, std::vector<float>& out) {
    if (r.wire_type() == pbf_wire_type::fixed32) {
      out.push_back(r.get_float());
      return;
    }
    expect(r, pbf_wire_type::length_delimited);
    auto range = r.get_packed_float();
    contents_ += range.size() * sizeof(float);
    out.insert(out.end(), range.begin(), range.end());
  }
  void doubles(Reader& r, std::vector<double>& out) {
    if (r.wire_type() == pbf_wire_type::fixed64) {
      out.push_back(r.get_double());
      return;
    }
    expect(r, pbf_wire_type::length_delimited);
    auto range = r.get_packed_double();
    contents_ += range.size() * sizeof(double);
    out.insert(out.end(), range.begin(), range.end());
  }

  void opset(Reader r, OperatorSet& o) {
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          o.domain = name(r);
          break;
        case 2:
          o.version = integer(r);
          break;
        default:
          r.skip();
      }
    }
  }

  void string_pair(Reader r, StringPair& p) {
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          p.first = name(r);
          break;
        case 2:
          p.second = text(r);
          break;
        default:
          r.skip();
      }
    }
  }

  std::string_view function_name(Reader r) {
    std::string_view found;
    while (r.next()) {
      if (r.tag() == 1) {
        found = name(r);
      } else {
        r.skip();
      }
    }
    return found;
  }

  void graph(Reader r, GraphProto& g) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          count(nodes_, limits_.nodes, "nodes");
          node(message(r), g.nodes.emplace_back());
          break;
        case 2:
          g.name = name(r);
          break;
        case 5:
          tensor(message(r), g.initializers.emplace_back());
          break;
        case 10:
          g.doc = text(r);
          break;
        case 11:
          value_info(message(r), g.inputs.emplace_back());
          break;
        case 12:
          value_info(message(r), g.outputs.emplace_back());
          break;
        case 15:
          message(r);
          ++g.sparse_initializer_count;
          break;
        default:
          r.skip();
      }
    }
  }

  void node(Reader r, NodeProto& n) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          n.inputs.push_back(name(r));
          break;
        case 2:
          n.outputs.push_back(name(r));
          break;
        case 3:
          n.name = name(r);
          break;
        case 4:
          n.op_type = name(r);
          break;
        case 5:
          attribute(message(r), n.attributes.emplace_back());
          break;
        case 7:
          n.domain = name(r);
          break;
        default:
          r.skip();
      }
    }
  }

  void attribute(Reader r, AttributeProto& a) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          a.name = name(r);
          break;
        case 2:
          a.f = real(r);
          break;
        case 3:
          a.i = integer(r);
          break;
        case 4:
          a.s = text(r);
          break;
        case 5:
          tensor(message(r), a.tensors.emplace_back());
          break;
        case 6:
          graph(message(r), a.graphs.emplace_back());
          break;
        case 7:
          reals(r, a.floats);
          break;
        case 8:
          integers(r, a.ints);
          break;
        case 9:
          a.strings.push_back(text(r));
          break;
        case 10:
          tensor(message(r), a.tensors.emplace_back());
          break;
        case 11:
          graph(message(r), a.graphs.emplace_back());
          break;
        case 20:
          a.type = static_cast<AttributeType>(integer(r));
          break;
        case 21:
          a.ref_name = name(r);
          break;
        default:
          r.skip();
      }
    }
  }

  void value_info(Reader r, ValueInfoProto& v) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          v.name = name(r);
          break;
        case 2:
          type(message(r), v);
          break;
        default:
          r.skip();
      }
    }
  }

  void type(Reader r, ValueInfoProto& v) {
    Depth depth(*this);
    while (r.next()) {
      if (r.tag() == 1) {
        v.is_tensor = true;
        tensor_type(message(r), v);
      } else {
        r.skip();
      }
    }
  }

  void tensor_type(Reader r, ValueInfoProto& v) {
    Depth depth(*this);
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          v.elem_type = static_cast<std::int32_t>(integer(r));
          break;
        case 2:
          v.has_shape = true;
          shape(message(r), v);
          break;
        default:
          r.skip();
      }
    }
  }

  void shape(Reader r, ValueInfoProto& v) {
    Depth depth(*this);
    while (r.next()) {
      if (r.tag() == 1) {
        dimension(message(r), v.dims.emplace_back());
      } else {
        r.skip();
      }
    }
  }

  void dimension(Reader r, DimProto& d) {
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          d.value = integer(r);
          d.kind = DimProto::Kind::value;
          break;
        case 2:
          d.symbol = name(r);
          d.kind = DimProto::Kind::symbol;
          break;
        default:
          r.skip();
      }
    }
  }

  const Limits& limits_;
  std::size_t file_size_;
  std::size_t contents_ = 0;  // bytes of tensor contents seen so far
  std::uint64_t nodes_ = 0;
  std::uint64_t tensors_ = 0;
  int depth_ = 0;
};

// The boundary that no exception passes.
template <class Message, class Decode>
Result<Message> guarded(std::span<const std::byte> bytes, const Limits& limits, Decode decode) {
  try {
    Message message;
    Decoder decoder(bytes.size(), limits);
    decode(decoder, Reader(reinterpret_cast<const char*>(bytes.data()), bytes.size()), message);
    return message;
  } catch (Refused& refused) {
    return std::move(refused.status);
  } catch (const protozero::exception& e) {
    return error(ErrorId::onnx_malformed, "not a protobuf message: {}", e.what());
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory();
  }
}

}  // namespace

Result<ModelProto> decode_model(std::span<const std::byte> bytes, const Limits& limits) {
  return guarded<ModelProto>(bytes, limits, [](Decoder& d, Reader r, ModelProto& m) { d.model(r, m); });
}

Result<TensorProto> decode_tensor(std::span<const std::byte> bytes, const Limits& limits) {
  return guarded<TensorProto>(bytes, limits, [](Decoder& d, Reader r, TensorProto& t) { d.tensor(r, t); });
}

}  // namespace aoq::onnx
