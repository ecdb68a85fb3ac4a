// The protobuf messages of an ONNX file as plain structs.
//
// Strings and raw tensor bytes are views into the file, which must outlive the structs. Only what the importer reads is
// kept: documentation strings, training information and unknown fields are skipped. wire.cpp alone knows protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/file_limits.h"
#include "ir/status.h"

namespace aoq::onnx {

using StringPair = std::pair<std::string_view, std::string_view>;

struct TensorProto {
  std::string_view name;
  std::int32_t data_type = 0;
  std::vector<std::int64_t> dims;
  // The contents are in one of these.
  bool has_raw_data = false;
  std::string_view raw_data;
  std::vector<float> float_data;
  std::vector<std::int32_t> int32_data;
  std::vector<std::int64_t> int64_data;
  std::vector<double> double_data;
  std::vector<std::uint64_t> uint64_data;
  std::size_t string_count = 0;
  // Or outside: "location", "offset", "length", "checksum".
  bool is_external = false;
  std::vector<StringPair> external_data;
};

struct GraphProto;

// The numbers that the file format gives the kinds.
enum class AttributeType : std::int32_t {
  undefined = 0,
  real = 1,
  integer = 2,
  string = 3,
  tensor = 4,
  graph = 5,
  reals = 6,
  integers = 7,
  strings = 8,
  tensors = 9,
  graphs = 10,
  sparse_tensor = 11,
  sparse_tensors = 12,
  type_proto = 13,
  type_protos = 14,
};

struct AttributeProto {
  std::string_view name;
  std::string_view ref_name;  // in function bodies
  AttributeType type = AttributeType::undefined;
  float f = 0;
  std::int64_t i = 0;
  std::string_view s;
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::string_view> strings;
  std::vector<TensorProto> tensors;  // one for `tensor`
  std::vector<GraphProto> graphs;    // one for `graph`
};

struct NodeProto {
  std::string_view name, op_type, domain;
  std::vector<std::string_view> inputs, outputs;
  std::vector<AttributeProto> attributes;
};

struct DimProto {
  enum class Kind : std::uint8_t { unknown, value, symbol };
  Kind kind = Kind::unknown;
  std::int64_t value = 0;
  std::string_view symbol;
};

struct ValueInfoProto {
  std::string_view name;
  bool is_tensor = false;
  bool has_shape = false;
  std::int32_t elem_type = 0;
  std::vector<DimProto> dims;
};

struct GraphProto {
  std::string_view name;
  std::string_view doc;
  std::vector<NodeProto> nodes;
  std::vector<TensorProto> initializers;
  std::vector<ValueInfoProto> inputs, outputs;
  std::size_t sparse_initializer_count = 0;
};

struct OperatorSet {
  std::string_view domain;
  std::int64_t version = 0;
};

struct ModelProto {
  std::int64_t ir_version = 0;
  std::string_view producer_name, producer_version, domain, doc;
  std::int64_t model_version = 0;
  std::vector<OperatorSet> opsets;
  std::vector<StringPair> metadata;
  std::vector<std::string_view> functions;  // names of model-local functions
  bool has_graph = false;
  GraphProto graph;
};

// Reads a whole file. invalid_model when it is not well-formed, resource_limit when it exceeds `limits`.
Result<ModelProto> decode_model(std::span<const std::byte> bytes, const Limits& limits);
// A file that holds one TensorProto, as the data sets of the ONNX test suite do.
Result<TensorProto> decode_tensor(std::span<const std::byte> bytes, const Limits& limits);

}  // namespace aoq::onnx
