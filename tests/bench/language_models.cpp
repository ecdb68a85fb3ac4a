#include "tests/bench/language_models.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <unordered_map>

#include "formats/gguf/gguf.h"
#include "formats/io/file.h"
#include "formats/json/json.h"
#include "formats/state/state.h"

namespace aoq::bench {

namespace {

using nn::Proxy;

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty()) return error(Code::not_found, "{}: cannot be read", path);
  return text.str();
}

// Sequences of `length` tokens, each behind `first` and in front of `last` where these are not negative.
std::vector<Tensor> sequences(const std::vector<std::int64_t>& tokens, std::size_t length, std::size_t count,
                              std::int64_t first, std::int64_t last) {
  const std::size_t own = length - (first >= 0) - (last >= 0);
  std::vector<Tensor> out;
  for (std::size_t at = 0; at + own <= tokens.size() && out.size() < count; at += own) {
    Tensor t = Tensor::make(DType::i64, {1, static_cast<std::int64_t>(length)}).value();
    auto to = t.mutable_as<std::int64_t>().begin();
    if (first >= 0) *to++ = first;
    to = std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(at), own, to);
    if (last >= 0) *to = last;
    out.push_back(std::move(t));
  }
  return out;
}

Type ids_type(std::int64_t length) {
  Type type;
  type.dtype = DType::i64;
  type.shape = {Dim(1), Dim(length)};
  return type;
}

// ---- MiniLM

// Lower case words and punctuation marks, each the longest pieces of the vocabulary.
class WordPieces {
 public:
  static Result<WordPieces> read(const std::string& path) {
    AOQ_ASSIGN(const std::string text, read_text(path));
    AOQ_ASSIGN(const Json json, parse_json(text));
    const Json* model = json_find(json, "model");
    const Json* vocabulary = model == nullptr ? nullptr : json_find(*model, "vocab");
    if (vocabulary == nullptr) return error(Code::invalid_data, "{}: has no model.vocab", path);
    WordPieces pieces;
    for (const auto& [piece, id] : vocabulary->items()) pieces.ids_[piece] = id.get<std::int64_t>();
    return pieces;
  }

  std::int64_t id(const std::string& piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? ids_.at("[UNK]") : found->second;
  }

  std::vector<std::int64_t> tokens(const std::string& text) const {
    std::vector<std::int64_t> out;
    std::string word;
    for (const char c : text + " ") {
      const auto u = static_cast<unsigned char>(c);
      if (std::isalnum(u) != 0) {
        word += static_cast<char>(std::tolower(u));
        continue;
      }
      if (!word.empty()) add_word(word, out);
      word.clear();
      if (std::ispunct(u) != 0) out.push_back(id(std::string(1, c)));
    }
    return out;
  }

 private:
  void add_word(const std::string& word, std::vector<std::int64_t>& out) const {
    std::vector<std::int64_t> parts;
    for (std::size_t at = 0; at < word.size();) {
      std::size_t size = word.size() - at;
      auto found = ids_.end();
      for (; size > 0 && found == ids_.end(); --size) found = ids_.find((at == 0 ? "" : "##") + word.substr(at, size));
      if (found == ids_.end()) return out.push_back(id("[UNK]"));
      parts.push_back(found->second);
      at += size + 1;
    }
    out.insert(out.end(), parts.begin(), parts.end());
  }

  std::unordered_map<std::string, std::int64_t> ids_;
};

constexpr std::int64_t kBertWidth = 384, kBertHeads = 12, kBertHidden = 1536, kBertWords = 30522;

struct BertAttention : nn::Module {
  using Module::Module;
  nn::Linear query{at("self.query"), kBertWidth, kBertWidth}, key{at("self.key"), kBertWidth, kBertWidth},
      value{at("self.value"), kBertWidth, kBertWidth}, dense{at("output.dense"), kBertWidth, kBertWidth};
  nn::LayerNorm norm{at("output.LayerNorm"), {kBertWidth}, 1e-12};
  static Proxy heads(const Proxy& x) {
    return x.view({x.size(0), x.size(1), kBertHeads, kBertWidth / kBertHeads}).permute({0, 2, 1, 3});
  }
  Proxy forward(const Proxy& x) override {
    const Proxy q = heads(query(x)), k = heads(key(x)), v = heads(value(x));
    const Proxy scores = nn::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(kBertWidth / kBertHeads));
    const Proxy mixed = nn::matmul(nn::F::softmax(scores, -1), v).permute({0, 2, 1, 3}).reshape({1, -1, kBertWidth});
    return norm(dense(mixed) + x);
  }
};

struct BertLayer : nn::Module {
  using Module::Module;
  BertAttention attention{at("attention")};
  nn::Linear up{at("intermediate.dense"), kBertWidth, kBertHidden}, down{at("output.dense"), kBertHidden, kBertWidth};
  nn::LayerNorm norm{at("output.LayerNorm"), {kBertWidth}, 1e-12};
  Proxy forward(const Proxy& x) override {
    const Proxy y = attention(x);
    return norm(down(nn::F::gelu(up(y))) + y);
  }
};

struct MiniLm : nn::Module {
  explicit MiniLm(std::int64_t length) : length_(length) {}
  nn::Embedding words{at("embeddings.word_embeddings"), kBertWords, kBertWidth},
      positions{at("embeddings.position_embeddings"), 512, kBertWidth},
      types{at("embeddings.token_type_embeddings"), 2, kBertWidth};
  nn::LayerNorm norm{at("embeddings.LayerNorm"), {kBertWidth}, 1e-12};
  std::vector<std::unique_ptr<BertLayer>> layers = make_layers();

  Proxy forward(const Proxy& ids) override {
    const Proxy places = positions.weight(ids)[{nn::Index::slice(0, length_)}];
    const Proxy kinds = types.weight(ids)[{nn::Index::slice(0, 1)}];
    Proxy x = norm(words(ids) + places.unsqueeze(0) + kinds.unsqueeze(0));
    for (const std::unique_ptr<BertLayer>& layer : layers) x = (*layer)(x);
    return x.mean({1});
  }

 private:
  std::vector<std::unique_ptr<BertLayer>> make_layers() {
    std::vector<std::unique_ptr<BertLayer>> made;
    for (int i = 0; i < 6; ++i) made.push_back(std::make_unique<BertLayer>(at("encoder.layer." + std::to_string(i))));
    return made;
  }
  std::int64_t length_;
};

double cosine(const Tensor& a, const Tensor& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    const double x = static_cast<double>(a.as<float>()[i]), y = static_cast<double>(b.as<float>()[i]);
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

// ---- SmolLM2

// Bytes as the printable characters that byte-level vocabularies spell them with.
std::array<std::string, 256> byte_spellings() {
  std::array<std::string, 256> out;
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool is_plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const int c = is_plain ? b : next++;
    std::string& s = out[static_cast<std::size_t>(b)];
    if (c < 128) {
      s = static_cast<char>(c);
    } else {
      s = {static_cast<char>(0xc0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3f))};
    }
  }
  return out;
}

class BytePairs {
 public:
  static Result<BytePairs> from(const GgufFile& file) {
    const auto tokens = file.settings.find("tokenizer.ggml.tokens"),
               merges = file.settings.find("tokenizer.ggml.merges");
    if (tokens == file.settings.end() || merges == file.settings.end()) {
      return error(Code::invalid_data, "the file has no tokens or merges");
    }
    BytePairs out;
    const auto* names = std::get_if<std::vector<std::string>>(&tokens->second);
    const auto* pairs = std::get_if<std::vector<std::string>>(&merges->second);
    if (names == nullptr || pairs == nullptr) return error(Code::invalid_data, "tokens or merges are no strings");
    for (std::size_t i = 0; i < names->size(); ++i) out.ids_[names->at(i)] = static_cast<std::int64_t>(i);
    for (std::size_t i = 0; i < pairs->size(); ++i) out.ranks_[pairs->at(i)] = i;
    return out;
  }

  std::vector<std::int64_t> tokens(const std::string& text) const {
    std::vector<std::int64_t> out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = end_of_word(text, at);
      add_word(text.substr(at, end - at), out);
      at = end;
    }
    return out;
  }

 private:
  enum class Kind : std::uint8_t { letter, digit, space, other };
  static Kind kind(char c) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalpha(u) != 0 || u >= 128) return Kind::letter;
    if (std::isdigit(u) != 0) return Kind::digit;
    return std::isspace(u) != 0 ? Kind::space : Kind::other;
  }

  // A run of one kind with the blank in front of it; digits one by one; blanks but the last one.
  static std::size_t end_of_word(const std::string& text, std::size_t at) {
    std::size_t i = at;
    if (text[i] == ' ' && i + 1 < text.size() && kind(text[i + 1]) != Kind::space && kind(text[i + 1]) != Kind::digit)
      ++i;
    const Kind k = kind(text[i]);
    if (k == Kind::digit) return i + 1;
    std::size_t end = i;
    while (end < text.size() && kind(text[end]) == k) ++end;
    if (k == Kind::space && end < text.size() && end - at > 1) --end;
    return end;
  }

  void add_word(const std::string& word, std::vector<std::int64_t>& out) const {
    static const std::array<std::string, 256> spellings = byte_spellings();
    std::vector<std::string> parts;
    for (char c : word) parts.push_back(spellings[static_cast<unsigned char>(c)]);
    while (parts.size() > 1) {
      std::size_t best = parts.size(), best_rank = ranks_.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks_.find(parts[i] + " " + parts[i + 1]);
        if (found == ranks_.end() || found->second >= best_rank) continue;
        best = i;
        best_rank = found->second;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const std::string& part : parts) {
      const auto found = ids_.find(part);
      if (found != ids_.end()) out.push_back(found->second);
    }
  }

  std::unordered_map<std::string, std::int64_t> ids_;
  std::unordered_map<std::string, std::size_t> ranks_;
};

constexpr std::int64_t kWidth = 576, kHeads = 9, kKeyHeads = 3, kHead = 64, kHidden = 1536, kTokens = 49152,
                       kLayers = 30;
constexpr double kRopeBase = 1e5, kNormEps = 1e-5;

struct RmsNorm : nn::Module {
  explicit RmsNorm(nn::Slot slot) : Module(std::move(slot)) {}
  nn::Parameter weight{*this, "weight", {kWidth}};
  Proxy forward(const Proxy& x) override { return x * nn::rsqrt((x * x).mean({-1}, true) + kNormEps) * weight(x); }
};

// cos and sin of every place and frequency, and the mask of what a token may see, as parameters that are computed.
struct Tables : nn::Module {
  Tables(nn::Slot slot, std::int64_t length) : Module(std::move(slot)), length_(length) {
    Tensor c = cosines.tensor(), s = sines.tensor(), m = mask.tensor();
    for (std::int64_t t = 0; t < length; ++t) {
      for (std::int64_t i = 0; i < kHead / 2; ++i) {
        const double angle = static_cast<double>(t) * std::pow(kRopeBase, -2.0 * static_cast<double>(i) / kHead);
        const auto at = static_cast<std::size_t>(t * kHead / 2 + i);
        c.mutable_as<float>()[at] = static_cast<float>(std::cos(angle));
        s.mutable_as<float>()[at] = static_cast<float>(std::sin(angle));
      }
      for (std::int64_t u = 0; u < length; ++u) {
        m.mutable_as<float>()[static_cast<std::size_t>(t * length + u)] = u > t ? -1e30f : 0.0f;
      }
    }
    AOQ_CHECK(cosines.set(std::move(c)).ok() && sines.set(std::move(s)).ok() && mask.set(std::move(m)).ok());
    for (nn::Parameter* p : {&cosines, &sines, &mask}) p->make_optional();
  }
  std::int64_t length_;
  nn::Parameter cosines{*this, "cosines", {length_, 1, kHead / 2}}, sines{*this, "sines", {length_, 1, kHead / 2}},
      mask{*this, "mask", {length_, length_}};
};

struct Block : nn::ModuleOf<Block> {
  using Module::forward;
  using ModuleOf::ModuleOf;
  RmsNorm attention_norm{at("attn_norm")}, hidden_norm{at("ffn_norm")};
  nn::Linear q{at("attn_q"), kWidth, kWidth, nn::Bias::without},
      k{at("attn_k"), kWidth, kKeyHeads* kHead, nn::Bias::without},
      v{at("attn_v"), kWidth, kKeyHeads* kHead, nn::Bias::without},
      o{at("attn_output"), kWidth, kWidth, nn::Bias::without}, gate{at("ffn_gate"), kWidth, kHidden, nn::Bias::without},
      up{at("ffn_up"), kWidth, kHidden, nn::Bias::without}, down{at("ffn_down"), kHidden, kWidth, nn::Bias::without};

  // x [T, heads * 64]: neighbours in a head are turned by the place's angle. The two halves are put one behind the
  // other, in queries and keys alike, which leaves their products as they are.
  static Proxy turned(const Proxy& x, std::int64_t heads, const Tables& tables) {
    const Proxy pairs = x.view({x.size(0), heads, kHead / 2, 2});
    const Proxy a = pairs[{nn::Index::all(), nn::Index::all(), nn::Index::all(), 0}];
    const Proxy b = pairs[{nn::Index::all(), nn::Index::all(), nn::Index::all(), 1}];
    const Proxy c = tables.cosines(x), s = tables.sines(x);
    return nn::cat({a * c - b * s, a * s + b * c}, -1).permute({1, 0, 2});
  }

  Proxy attention(const Proxy& x, const Tables& tables) {
    const Proxy qs = turned(q(x), kHeads, tables).view({kKeyHeads, kHeads / kKeyHeads, x.size(0), kHead});
    const Proxy ks = turned(k(x), kKeyHeads, tables).unsqueeze(1);
    const Proxy vs = v(x).view({x.size(0), kKeyHeads, kHead}).permute({1, 0, 2}).unsqueeze(1);
    const Proxy scores = nn::matmul(qs, ks.transpose(-1, -2)) / 8.0 + tables.mask(x);
    const Proxy mixed = nn::matmul(nn::F::softmax(scores, -1), vs);
    return o(mixed.view({kHeads, x.size(0), kHead}).permute({1, 0, 2}).reshape({x.size(0), kWidth}));
  }

  Proxy forward(const Proxy& x, const Tables& tables) {
    const Proxy y = x + attention(attention_norm(x), tables);
    const Proxy z = hidden_norm(y);
    return y + down(nn::F::silu(gate(z)) * up(z));
  }
};

struct SmolLm : nn::Module {
  explicit SmolLm(std::int64_t length) : tables(at("tables"), length) {}
  nn::Embedding tokens{at("token_embd"), kTokens, kWidth};
  Tables tables;
  std::vector<std::unique_ptr<Block>> blocks = make_blocks();
  RmsNorm norm{at("output_norm")};
  nn::Linear head{at("output"), kWidth, kTokens, nn::Bias::without};

  Proxy forward(const Proxy& ids) override {
    Proxy x = tokens(ids).view({ids.size(1), kWidth});
    for (const std::unique_ptr<Block>& block : blocks) x = (*block)(x, tables);
    return nn::F::log_softmax(head(norm(x)), -1);
  }

 private:
  std::vector<std::unique_ptr<Block>> make_blocks() {
    std::vector<std::unique_ptr<Block>> made;
    for (std::int64_t i = 0; i < kLayers; ++i) made.push_back(std::make_unique<Block>(at("blk." + std::to_string(i))));
    return made;
  }
};

Result<double> perplexity(const std::vector<Tensor>& measured, const std::vector<Tensor>& results) {
  double sum = 0;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::span<const std::int64_t> ids = measured[i].as<std::int64_t>();
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
      sum -= static_cast<double>(results[i].as<float>()[t * kTokens + static_cast<std::size_t>(ids[t + 1])]);
      ++count;
    }
  }
  return std::exp(sum / static_cast<double>(count));
}

constexpr const char* kCalibrationTexts[] = {"GPL-2", "LGPL-2.1", "Artistic", "Apache-2.0"};

}  // namespace

Result<LanguageModel> mini_lm(const std::string& folder, const std::string& text_folder) {
  constexpr std::int64_t kLength = 64;
  AOQ_ASSIGN(const WordPieces pieces, WordPieces::read(folder + "/tokenizer.json"));
  AOQ_ASSIGN(nn::StateDict state, read_state(folder + "/model.safetensors"));
  std::erase_if(state, [](const auto& entry) {
    return entry.first.starts_with("pooler.") || entry.first.ends_with("position_ids");
  });
  LanguageModel model;
  model.name = "MiniLM-L6";
  model.figure_name = "mean cosine";
  const std::int64_t first = pieces.id("[CLS]"), last = pieces.id("[SEP]");
  AOQ_ASSIGN(const std::string text, read_text(text_folder + "/GPL-3"));
  model.measured = sequences(pieces.tokens(text), kLength, 100, first, last);
  for (const char* name : kCalibrationTexts) {
    AOQ_ASSIGN(const std::string more, read_text(text_folder + "/" + name));
    for (Tensor& t : sequences(pieces.tokens(more), kLength, 8, first, last)) model.calibration.push_back(std::move(t));
  }
  auto net = std::make_shared<MiniLm>(kLength);  // owners: the functions of the result
  AOQ_TRY(net->load_state(state));
  model.trace = [net] { return nn::symbolic_trace(*net, {"ids", ids_type(kLength)}); };
  auto exact = std::make_shared<std::vector<Tensor>>();
  model.figure = [exact](const std::vector<Tensor>& results) -> Result<double> {
    if (exact->empty()) *exact = results;
    double sum = 0;
    for (std::size_t i = 0; i < results.size(); ++i) sum += cosine(exact->at(i), results[i]);
    return sum / static_cast<double>(results.size());
  };
  return model;
}

Result<LanguageModel> smol_lm(const std::string& path, const std::string& text_folder) {
  constexpr std::int64_t kLength = 256;
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  AOQ_ASSIGN(const GgufFile gguf, read_gguf(file->bytes()));
  AOQ_ASSIGN(const BytePairs pairs, BytePairs::from(gguf));
  AOQ_ASSIGN(nn::StateDict state, read_state(path));
  if (!state.contains("output.weight")) state["output.weight"] = state.at("token_embd.weight");
  LanguageModel model;
  model.name = "SmolLM2-135M";
  model.figure_name = "perplexity";
  model.wide_group = 96;  // 128 does not divide 576
  model.keep_float = "output";
  AOQ_ASSIGN(const std::string text, read_text(text_folder + "/GPL-3"));
  model.measured = sequences(pairs.tokens(text), kLength, 4, -1, -1);
  for (const char* name : kCalibrationTexts) {
    AOQ_ASSIGN(const std::string more, read_text(text_folder + "/" + name));
    for (Tensor& t : sequences(pairs.tokens(more), kLength, 2, -1, -1)) model.calibration.push_back(std::move(t));
  }
  auto net = std::make_shared<SmolLm>(kLength);  // owners: the functions of the result
  AOQ_TRY(net->load_state(state));
  model.trace = [net] { return nn::symbolic_trace(*net, {"ids", ids_type(kLength)}); };
  const std::vector<Tensor> measured = model.measured;
  model.figure = [measured](const std::vector<Tensor>& results) { return perplexity(measured, results); };
  return model;
}

}  // namespace aoq::bench
