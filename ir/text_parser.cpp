#include <charconv>
#include <cstdlib>

#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"
#include "ir/text.h"

namespace aoq {

namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$';
}

// Recursive descent over one text. Lists nest no deeper than a dimension does.
class Reader {
 public:
  Reader(std::string_view text, const std::map<std::string, Tensor>& constants, const Limits& limits)
      : text_(text), constants_(constants), limits_(limits) {}

  Result<Graph> read() {
    if (text_.size() > limits_.metadata_bytes) {
      return error(ErrorId::limit, "text of {} bytes, limit {}", text_.size(), limits_.metadata_bytes);
    }
    AOQ_TRY(header());
    std::uint64_t nodes = 0;
    while (skip_space(), at_ < text_.size()) {
      if (++nodes > limits_.nodes) return error(ErrorId::limit, "text has more than {} nodes", limits_.nodes);
      Status s = statement();
      if (!s.ok()) return s;
    }
    return std::move(graph_);
  }

 private:
  // ---- characters and tokens

  Status fail(std::string_view expected) const { return fail_at(at_, fmt::format("expected {}", expected)); }
  Status fail_at(std::size_t at, std::string_view what, ErrorId id = ErrorId::text_syntax) const {
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < at && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n';
    }
    return Status(id, fmt::format("line {} column {}: {}", line, column, what));
  }

  void skip_space() {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        ++at_;
      } else if (text_.substr(at_, 2) == "//") {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        return;
      }
    }
  }
  bool peek(char c) {
    skip_space();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool take(char c) {
    if (!peek(c)) return false;
    ++at_;
    return true;
  }
  Status expect(char c) { return take(c) ? Status() : fail(std::string("'") + c + "'"); }
  std::string_view word() {
    skip_space();
    std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  bool take_word(std::string_view w) {
    std::size_t begin = at_;
    if (word() == w) return true;
    at_ = begin;
    return false;
  }

  Result<std::string> string() {
    AOQ_TRY(expect('"'));
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      char c = text_[at_++];
      if (c == '\\') {
        if (at_ >= text_.size()) return fail("the rest of an escape");
        c = text_[at_++];
        if (c == 'x') {
          unsigned v = 0;
          auto [end, ec] = std::from_chars(text_.data() + at_, text_.data() + std::min(at_ + 2, text_.size()), v, 16);
          if (ec != std::errc() || end != text_.data() + at_ + 2) return fail("two hexadecimal digits");
          at_ += 2;
          c = static_cast<char>(v);
        } else if (c != '"' && c != '\\') {
          return fail("one of \\\\ \\\" \\xNN");
        }
      }
      out += c;
    }
    AOQ_TRY(expect('"'));
    return out;
  }

  // A string that names something.
  Result<std::string> name() {
    std::size_t begin = at_;
    AOQ_ASSIGN(std::string text, string());
    if (text.size() <= limits_.name_bytes) return text;
    return fail_at(begin, fmt::format("a name of {} bytes, limit {}", text.size(), limits_.name_bytes), ErrorId::limit);
  }

  template <typename T>
  Result<T> integer() {
    skip_space();
    T v = 0;
    auto [end, ec] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
    if (ec != std::errc()) return fail("an integer");
    at_ = static_cast<std::size_t>(end - text_.data());
    return v;
  }

  Result<double> real() {
    skip_space();
    std::size_t begin = at_;
    auto part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '+'; };
    while (at_ < text_.size() && part(text_[at_])) ++at_;
    std::string token(text_.substr(begin, at_ - begin));
    char* end = nullptr;
    double v = std::strtod(token.c_str(), &end);
    if (token.empty() || end != token.c_str() + token.size()) return fail_at(begin, "expected a number");
    return v;
  }

  Result<DType> dtype() {
    std::size_t begin = at_;
    std::string_view name = word();
    std::optional<DType> d = dtype_from_name(name);
    if (!d) return fail_at(begin, fmt::format("expected an element type, found \"{}\"", name));
    return *d;
  }

  // '[' item (',' item)* ']'
  template <typename F>
  Status items(F&& item) {
    AOQ_TRY(expect('['));
    if (take(']')) return {};
    do {
      AOQ_TRY(item());
    } while (take(','));
    return expect(']');
  }

  Result<std::vector<std::int64_t>> integers() {
    std::vector<std::int64_t> out;
    AOQ_TRY(items([&]() -> Status {
      AOQ_ASSIGN(std::int64_t v, integer<std::int64_t>());
      out.push_back(v);
      return {};
    }));
    return out;
  }

  Result<std::vector<Dim>> dims() {
    std::vector<Dim> out;
    AOQ_TRY(items([&]() -> Status {
      skip_space();
      std::size_t begin = at_;
      int depth = 0;
      while (at_ < text_.size() && (depth > 0 || (text_[at_] != ',' && text_[at_] != ']'))) {
        depth += (text_[at_] == '(') - (text_[at_] == ')');
        ++at_;
      }
      Result<Dim> d = Dim::parse(text_.substr(begin, at_ - begin));
      if (!d.ok()) return fail_at(begin, d.status().message(), d.status().id());
      out.push_back(std::move(*d));
      return {};
    }));
    return out;
  }

  Result<Tensor> tensor() {
    std::size_t begin = at_;
    AOQ_ASSIGN(DType type, dtype());
    AOQ_ASSIGN(std::vector<std::int64_t> shape, integers());
    if (take('@')) {
      AOQ_ASSIGN(std::string name, string());
      auto it = constants_.find(name);
      if (it == constants_.end()) {
        return fail_at(begin, fmt::format("constant \"{}\" is not in the weights beside the text", name),
                       ErrorId::not_found);
      }
      const Tensor& t = it->second;
      if (t.dtype() == type && t.shape() == shape) return t;
      return typed(t, type, std::move(shape), begin, name);
    }
    std::optional<std::int64_t> count = checked::element_count(shape);
    // Every element takes two characters or more.
    if (!count || static_cast<std::uint64_t>(*count) > text_.size() - at_) {
      return fail_at(begin, "the inline tensor has fewer elements than its shape");
    }
    if (shape.size() > limits_.rank)
      return fail_at(begin, fmt::format("rank {}, limit {}", shape.size(), limits_.rank), ErrorId::limit);
    if (++tensors_ > limits_.tensors) return error(ErrorId::limit, "text has more than {} tensors", limits_.tensors);
    AOQ_ASSIGN(Tensor t, Tensor::make(type, std::move(shape)));
    std::span<std::byte> bytes = t.mutable_bytes();
    AOQ_TRY(expect('{'));
    for (std::int64_t i = 0; i < *count; ++i) {
      if (i > 0) AOQ_TRY(expect(','));
      if (is_integer(type) || type == DType::boolean) {
        if (type == DType::u64) {
          AOQ_ASSIGN(std::uint64_t v, integer<std::uint64_t>());
          store_integer(type, bytes.data(), i, static_cast<std::int64_t>(v));
        } else {
          AOQ_ASSIGN(std::int64_t v, integer<std::int64_t>());
          store_integer(type, bytes.data(), i, v);
        }
      } else {
        AOQ_ASSIGN(double v, real());
        store_from_double(type, bytes.data(), i, v);
      }
    }
    AOQ_TRY(expect('}'));
    return t;
  }

  // Types without a safetensors name are stored as bytes; the text has the logical type.
  Result<Tensor> typed(const Tensor& t, DType type, std::vector<std::int64_t> shape, std::size_t at,
                       const std::string& name) {
    std::optional<std::int64_t> count = checked::element_count(shape);
    std::optional<std::uint64_t> bytes;
    if (count)
      bytes =
          checked::packed_bytes(static_cast<std::uint64_t>(*count), static_cast<std::uint64_t>(dtype_info(type).bits));
    if (t.dtype() != DType::u8 || !bytes || *bytes != static_cast<std::uint64_t>(t.byte_size())) {
      return fail_at(at, fmt::format("constant \"{}\" is {}{}, expected {}{}", name, dtype_name(t.dtype()),
                                     shape_to_string(t.shape()), dtype_name(type), shape_to_string(shape)));
    }
    return Tensor::copy_of(type, std::move(shape), t.bytes());
  }

  Result<Attribute> attribute(AttributeKind kind) {
    switch (kind) {
      case AttributeKind::boolean: {
        if (take_word("true")) return Attribute(true);
        if (take_word("false")) return Attribute(false);
        return fail("true or false");
      }
      case AttributeKind::integer: {
        AOQ_ASSIGN(std::int64_t v, integer<std::int64_t>());
        return Attribute(v);
      }
      case AttributeKind::real: {
        AOQ_ASSIGN(double v, real());
        return Attribute(v);
      }
      case AttributeKind::string: {
        AOQ_ASSIGN(std::string v, name());
        return Attribute(std::move(v));
      }
      case AttributeKind::dtype: {
        AOQ_ASSIGN(DType v, dtype());
        return Attribute(v);
      }
      case AttributeKind::integers: {
        AOQ_ASSIGN(std::vector<std::int64_t> v, integers());
        return Attribute(std::move(v));
      }
      case AttributeKind::reals: {
        std::vector<double> v;
        AOQ_TRY(items([&]() -> Status {
          AOQ_ASSIGN(double x, real());
          v.push_back(x);
          return {};
        }));
        return Attribute(std::move(v));
      }
      case AttributeKind::strings: {
        AOQ_ASSIGN(std::vector<std::string> v, strings('[', ']'));
        return Attribute(std::move(v));
      }
      case AttributeKind::dims: {
        AOQ_ASSIGN(std::vector<Dim> v, dims());
        return Attribute(std::move(v));
      }
      case AttributeKind::tensor:
        break;
    }
    AOQ_ASSIGN(Tensor t, tensor());
    return Attribute(std::move(t));
  }

  Result<std::vector<std::string>> strings(char open, char close) {
    std::vector<std::string> out;
    AOQ_TRY(expect(open));
    if (take(close)) return out;
    do {
      AOQ_ASSIGN(std::string s, name());
      out.push_back(std::move(s));
    } while (take(','));
    AOQ_TRY(expect(close));
    return out;
  }

  // ---- the parts of a file

  Status header() {
    if (!take_word("aoqir")) return fail("\"aoqir 1 STAGE\"");
    AOQ_ASSIGN(std::int64_t version, integer<std::int64_t>());
    if (version != 1) {
      return fail_at(at_, fmt::format("text version {} is not known; this build reads version 1", version),
                     ErrorId::unsupported);
    }
    std::size_t begin = at_;
    std::optional<Stage> stage = stage_from_name(word());
    if (!stage) return fail_at(begin, "expected a stage: traced, prepared, quantized or lowered");
    graph_.stage = *stage;
    if (take_word("graph")) {
      AOQ_ASSIGN(graph_.name, string());
    }
    while (true) {
      if (take_word("symbol")) {
        AOQ_TRY(symbol());
      } else if (take_word("meta")) {
        AOQ_ASSIGN(std::string key, string());
        AOQ_ASSIGN(graph_.metadata[key], string());
      } else if (take_word("weights")) {
        AOQ_TRY(weights());
      } else {
        return {};
      }
    }
  }

  Status symbol() {
    std::string name(word());
    if (name.empty()) return fail("a symbol");
    SymbolRange range;
    AOQ_TRY(expect('['));
    AOQ_ASSIGN(range.min, integer<std::int64_t>());
    AOQ_TRY(expect(','));
    if (!peek(']')) {
      AOQ_ASSIGN(range.max, integer<std::int64_t>());
    }
    AOQ_TRY(expect(']'));
    graph_.symbols[name] = range;
    return {};
  }

  Status weights() {
    std::size_t begin = at_;
    std::string token(word());
    std::uint64_t expected = std::strtoull(token.c_str(), nullptr, 16);
    std::uint64_t found = hash_constants(constants_);
    if (expected == found) return {};
    return fail_at(begin,
                   fmt::format("the weights beside the text have hash {:#018x}, expected {:#018x}: they belong to "
                               "another version of it",
                               found, expected),
                   ErrorId::weights_mismatch);
  }

  Result<std::vector<std::int64_t>> results() {
    std::vector<std::int64_t> ids;
    while (take('%')) {
      AOQ_ASSIGN(std::int64_t id, integer<std::int64_t>());
      if (values_.contains(id)) return fail_at(at_, fmt::format("%{} is defined twice", id));
      ids.push_back(id);
      if (!take(',')) break;
    }
    if (!ids.empty()) AOQ_TRY(expect('='));
    return ids;
  }

  Result<std::vector<Value*>> operands() {
    std::vector<Value*> inputs;
    AOQ_TRY(expect('('));
    if (take(')')) return inputs;
    do {
      if (take('_')) {
        inputs.push_back(nullptr);
        continue;
      }
      AOQ_TRY(expect('%'));
      std::size_t begin = at_;
      AOQ_ASSIGN(std::int64_t id, integer<std::int64_t>());
      auto it = values_.find(id);
      if (it == values_.end()) return fail_at(begin, fmt::format("%{} is not defined", id));
      inputs.push_back(it->second);
    } while (take(','));
    AOQ_TRY(expect(')'));
    return inputs;
  }

  Result<Attributes> attributes(const OpDef& def) {
    Attributes out;
    if (!take('{')) return out;
    do {
      std::size_t begin = at_;
      std::string name(word());
      const AttributeDef* a = def.attribute(name);
      if (a == nullptr) return fail_at(begin, fmt::format("{} has no attribute \"{}\"", def.name, name));
      if (out.has(name)) return fail_at(begin, fmt::format("attribute {} is given twice", name));
      AOQ_TRY(expect('='));
      AOQ_ASSIGN(Attribute value, attribute(a->kind));
      out.set(name, std::move(value));
    } while (take(','));
    AOQ_TRY(expect('}'));
    return out;
  }

  Status statement() {
    std::size_t begin = at_;
    AOQ_ASSIGN(std::vector<std::int64_t> ids, results());
    std::size_t name_at = at_;
    std::string name(word());
    std::optional<Op> op = op_from_name(name);
    if (!op) return fail_at(name_at, fmt::format("unknown op \"{}\"; did you mean {}?", name, nearest_op_name(name)));
    AOQ_ASSIGN(std::vector<Value*> inputs, operands());
    AOQ_ASSIGN(Attributes attrs, attributes(op_def(*op)));
    Result<Node*> made = graph_.create(*op, std::move(inputs), std::move(attrs));
    if (!made.ok()) return fail_at(begin, made.status().message(), made.status().id());
    Node* node = *made;
    if (node->output_count() != ids.size()) {
      return fail_at(begin, fmt::format("{} has {} results, {} are named", name, node->output_count(), ids.size()));
    }
    for (std::size_t i = 0; i < ids.size(); ++i) values_[ids[i]] = node->output(i);
    AOQ_TRY(result_types(*node));
    return suffixes(*node);
  }

  Status result_types(const Node& node) {
    if (!take(':')) return {};
    for (std::size_t i = 0; i < node.output_count(); ++i) {
      if (i > 0) AOQ_TRY(expect(','));
      skip_space();
      std::string expected = to_string(node.output(i)->type());
      if (text_.substr(at_, expected.size()) != expected) {
        return fail(fmt::format("the type {} that {} gives", expected, node.def().name));
      }
      at_ += expected.size();
    }
    return {};
  }

  Status suffixes(Node& node) {
    while (true) {
      std::vector<std::string> parts;
      auto read = [&]() -> Status {
        AOQ_ASSIGN(parts, strings('(', ')'));
        return {};
      };
      if (take_word("scope")) {
        AOQ_TRY(read());
        if (parts.size() != 2 && parts.size() != 3) return fail("scope(path, type) or scope(path, type, callee)");
        node.scope = {parts[0], parts[1], parts.size() == 3 ? parts[2] : std::string()};
      } else if (take_word("origins")) {
        AOQ_TRY(read());
        node.origins = std::move(parts);
      } else if (take_word("requested")) {
        AOQ_TRY(read());
        if (parts.size() != 1) return fail("requested(precision)");
        node.requested = parts[0];
      } else if (take_word("reason")) {
        AOQ_TRY(read());
        if (parts.size() != 1) return fail("reason(text)");
        node.reason = parts[0];
      } else {
        return {};
      }
    }
  }

  std::string_view text_;
  const std::map<std::string, Tensor>& constants_;
  const Limits& limits_;
  std::size_t at_ = 0;
  std::uint64_t tensors_ = 0;
  Graph graph_;
  std::map<std::int64_t, Value*> values_;
};

}  // namespace

Result<Graph> parse_text(std::string_view text, const std::map<std::string, Tensor>& constants, const Limits& limits) {
  return guarded([&] { return Reader(text, constants, limits).read(); });
}

}  // namespace aoq
