#include "formats/state/state.h"

#include <doctest/doctest.h>

#include <fstream>

#include "formats/npy/npy.h"
#include "formats/safetensors/safetensors.h"
#include "ir/nn/modules.h"
#include "tests/support/folder.h"

namespace aoq {
namespace {

TEST_CASE("a module takes its weights by name from safetensors and from npz") {
  nn::Linear source({}, 3, 2), from_safetensors({}, 3, 2), from_npz({}, 3, 2);
  source.weight.fill(0.5f);
  source.bias.fill(-1.0f);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : source.state()) tensors.push_back({name, tensor});
  const test::Folder folder;
  const std::string st = folder / "w.safetensors", npz = folder / "w.npz", other = folder / "w.txt";
  {
    std::ofstream out(st, std::ios::binary);
    auto sink = [&](std::span<const std::byte> b) -> Status {
      out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
      return {};
    };
    REQUIRE(write_safetensors({tensors, {}}, sink).ok());
    std::ofstream zip(npz, std::ios::binary);
    auto zip_sink = [&](std::span<const std::byte> b) -> Status {
      zip.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
      return {};
    };
    REQUIRE(write_npz(tensors, zip_sink).ok());
    std::ofstream(other) << "no weights at all";
  }
  REQUIRE(from_safetensors.load_state(read_state(st).value()).ok());
  REQUIRE(from_npz.load_state(read_state(npz).value()).ok());
  for (const nn::Linear* l : {&from_safetensors, &from_npz}) {
    CHECK(l->weight.tensor().as<float>()[5] == 0.5f);
    CHECK(l->bias.tensor().as<float>()[1] == -1.0f);
  }
  CHECK(read_state(other).status().message().find("w.txt") != std::string::npos);
  CHECK(read_state(folder / "none").status().code() == Code::not_found);
}

}  // namespace
}  // namespace aoq
