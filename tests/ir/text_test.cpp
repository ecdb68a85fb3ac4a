#include "ir/text.h"

#include <doctest/doctest.h>

#include "ir/hash.h"
#include "ir/verifier.h"

namespace aoq {
namespace {

Graph small_graph() {
  Graph g;
  g.symbols["N"] = {1, 64};
  g.metadata["producer"] = "a \"test\"\n";
  Value* x = g.input("x", Type{DType::f32, {Dim::symbol("N"), 3}, std::nullopt});
  std::vector<float> one(3, 0.1f);
  Value* c = g.constant(*Tensor::from_values<float>(DType::f32, {3}, one), nullptr, "bias");
  std::vector<float> many(51, -2.5f);
  Value* d = g.constant(*Tensor::from_values<float>(DType::f32, {17, 1, 3}, many), nullptr, "table");
  Node* sum = *g.create(Op::add, {x, c});
  sum->scope = {"enc.fc", "Linear"};
  sum->origins = {"Add_0", "Add_1"};
  Node* wide = *g.create(Op::add, {sum->output(), d});
  wide->requested = "int8";
  wide->reason = "no \"kernel\"";
  AOQ_CHECK(g.output({wide->output(), sum->output()}, {"y", "z"}).ok());
  return g;
}

TEST_CASE("text reads back to the same text") {
  Graph g = small_graph();
  REQUIRE(verify(g).ok());
  GraphText printed = print_text(g);
  CHECK(printed.constants.size() == 1);
  Result<Graph> back = parse_text(printed.text, printed.constants);
  REQUIRE_MESSAGE(back.ok(), back.status().message());
  CHECK(verify(*back).ok());
  CHECK(print_text(*back).text == printed.text);
  CHECK(print_text(g.clone()).text == printed.text);
}

TEST_CASE("text errors say line and column") {
  GraphText printed = print_text(small_graph());
  auto message = [&](std::string_view text) { return parse_text(text, printed.constants).status().message(); };
  CHECK(message("aoqir 2 traced").find("version 2") != std::string::npos);
  CHECK(message("aoqir 1 tracd").find("line 1") != std::string::npos);
  CHECK(message("aoqir 1 traced\n%0 = reluu(%1)").find("did you mean relu") != std::string::npos);
  CHECK(message("aoqir 1 traced\n%0 = relu(%1)").find("line 2 column 12") != std::string::npos);
  CHECK(parse_text(printed.text, {}).status().code() == Code::invalid_model);  // the weights' hash is another
}

TEST_CASE("text cut anywhere gives a typed error or a graph") {
  GraphText printed = print_text(small_graph());
  for (std::size_t n = 0; n < printed.text.size(); ++n) {
    Result<Graph> cut = parse_text(std::string_view(printed.text).substr(0, n), printed.constants);
    if (cut.ok())
      CHECK((verify(*cut).code() == Code::invalid_model || n + 1 == printed.text.size()));
    else
      CHECK(cut.status().code() != Code::internal);
  }
}

TEST_CASE("the verifier names what is wrong") {
  Graph g = small_graph();
  g.symbols.clear();
  CHECK(verify(g).message().find("symbol N is not declared") != std::string::npos);
  Graph no_output;
  CHECK(verify(no_output).message().find("0 output nodes") != std::string::npos);
  Graph wrong = small_graph();
  wrong.last()->input(0)->set_type(Type{DType::f32, {1}, std::nullopt});
  CHECK(verify(wrong).message().find("inference gives") != std::string::npos);
}

TEST_CASE("xxh64 equals the published vectors") {
  CHECK(xxh64({}) == 0xEF46DB3751D8E999);
  std::string_view abc = "abc";
  CHECK(xxh64(std::as_bytes(std::span(abc))) == 0x44BC2CF5AD770999);
  std::string_view spam = "Nobody inspects the spammish repetition";
  CHECK(xxh64(std::as_bytes(std::span(spam))) == 0xFBCEA83C8A378BF1);
}

TEST_CASE("dimensions are canonical") {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  CHECK(n * 8 + 4 - n == n * 7 + 4);
  CHECK(floor_div(n * 8 + 4, 4) == n * 2 + 1);
  CHECK(floor_div(n * t * 64, t * 8) == n * 8);
  CHECK((t * n).to_string() == "N*T");
  CHECK(ceil_div(n * 4, 2) == n * 2);
  CHECK(min(n + 1, n) == n);
  CHECK(*floor_div(n - 1, 2).evaluate({{"N", 0}}) == -1);
  for (const char* text : {"floordiv(N + 1, 2)", "2*N*T - 3", "ceildiv(max(N, T), 7) + 1", "-N"}) {
    CHECK(Dim::parse(text)->to_string() == text);
  }
  CHECK(Dim::parse(std::string(5000, '-') + "N").status().code() == Code::resource_limit);
  CHECK(!Dim::parse("floordiv(N, ").ok());
  CHECK(Dim::symbol("N").substitute({{"N", 5}}) == Dim(5));
  CHECK(!(n * n * INT64_MAX * 4).evaluate({{"N", 3}}).ok());
}

}  // namespace
}  // namespace aoq
