// Builds small ONNX files in memory, well-formed or not, with a protobuf writer of a few lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace aoq::test {

class Message {
 public:
  Message& varint(int field, std::uint64_t value) {
    raw_varint(static_cast<std::uint64_t>(field) << 3);
    raw_varint(value);
    return *this;
  }
  Message& integer(int field, std::int64_t value) { return varint(field, static_cast<std::uint64_t>(value)); }
  Message& real(int field, float value) {
    raw_varint(static_cast<std::uint64_t>(field) << 3 | 5);
    char raw[4];
    std::memcpy(raw, &value, 4);
    bytes_.append(raw, 4);
    return *this;
  }
  Message& text(int field, std::string_view value) {
    raw_varint(static_cast<std::uint64_t>(field) << 3 | 2);
    raw_varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  void raw_varint(std::uint64_t v) {
    for (; v >= 128; v >>= 7) bytes_ += static_cast<char>(v | 128);
    bytes_ += static_cast<char>(v);
  }
  std::string bytes_;
};

inline constexpr int kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7, kBool = 9;

template <class T>
std::string_view raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline Message tensor(std::string_view name, int type, const std::vector<std::int64_t>& dims, std::string_view bytes) {
  Message m;
  for (std::int64_t d : dims) m.integer(1, d);
  return m.integer(2, type).text(8, name).text(9, bytes);
}
inline Message floats(std::string_view name, const std::vector<std::int64_t>& dims, const std::vector<float>& values) {
  return tensor(name, kFloat, dims, raw(values));
}
inline Message int64s(std::string_view name, const std::vector<std::int64_t>& dims,
                      const std::vector<std::int64_t>& values) {
  return tensor(name, kInt64, dims, raw(values));
}

using DimSpec = std::variant<int, std::string>;

inline Message value_info(std::string_view name, int type, const std::vector<DimSpec>& dims) {
  Message shape;
  for (const DimSpec& d : dims) {
    Message dim;
    if (std::holds_alternative<int>(d)) {
      dim.integer(1, std::get<int>(d));
    } else if (!std::get<std::string>(d).empty()) {
      dim.text(2, std::get<std::string>(d));
    }
    shape.message(1, dim);
  }
  Message t;
  t.integer(1, type).message(2, shape);
  return Message().text(1, name).message(2, Message().message(1, t));
}

inline Message attribute(std::string_view name, std::int64_t value) {
  return Message().text(1, name).integer(3, value).integer(20, 2);
}
inline Message attribute(std::string_view name, float value) {
  return Message().text(1, name).real(2, value).integer(20, 1);
}
inline Message attribute(std::string_view name, std::string_view value) {
  return Message().text(1, name).text(4, value).integer(20, 3);
}
inline Message attribute(std::string_view name, const std::vector<std::int64_t>& values) {
  Message m;
  m.text(1, name);
  for (std::int64_t v : values) m.integer(8, v);
  return m.integer(20, 7);
}
inline Message tensor_attribute(std::string_view name, const Message& value) {
  return Message().text(1, name).message(5, value).integer(20, 4);
}
inline Message graph_attribute(std::string_view name, const Message& value) {
  return Message().text(1, name).message(6, value).integer(20, 5);
}

inline Message node(std::string_view op, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs, const std::vector<Message>& attributes = {},
                    std::string_view name = {}, std::string_view domain = {}) {
  Message m;
  for (const std::string& s : inputs) m.text(1, s);
  for (const std::string& s : outputs) m.text(2, s);
  if (!name.empty()) m.text(3, name);
  m.text(4, op);
  for (const Message& a : attributes) m.message(5, a);
  if (!domain.empty()) m.text(7, domain);
  return m;
}

class OnnxBuilder {
 public:
  explicit OnnxBuilder(int opset = 17) : opset_(opset) {}

  OnnxBuilder& input(std::string_view name, int type, const std::vector<DimSpec>& dims) {
    graph_.message(11, value_info(name, type, dims));
    return *this;
  }
  OnnxBuilder& output(std::string_view name, int type = kFloat) {
    graph_.message(12, value_info(name, type, {}));
    return *this;
  }
  OnnxBuilder& initializer(const Message& t) {
    graph_.message(5, t);
    return *this;
  }
  OnnxBuilder& add(std::string_view op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                   const std::vector<Message>& attributes = {}, std::string_view name = {},
                   std::string_view domain = {}) {
    graph_.message(1, node(op, inputs, outputs, attributes, name, domain));
    return *this;
  }
  Message& graph() { return graph_; }
  Message& model() { return model_; }

  // The graph comes last, so a file that is cut short anywhere is not a model.
  std::vector<std::byte> bytes() const {
    Message m = model_;
    m.integer(1, 8);
    if (opset_ != 0) m.message(8, Message().text(1, "").integer(2, opset_));
    m.message(7, graph_);
    auto all = std::as_bytes(std::span(m.bytes()));
    return {all.begin(), all.end()};
  }

 private:
  int opset_;
  Message model_, graph_;
};

}  // namespace aoq::test
