#include "formats/npy/npy.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>

#include "formats/io/file.h"
#include "tests/formats/mutate.h"

namespace aoq {
namespace {

std::vector<std::byte> npy_of(std::string_view header, std::size_t elements, int major = 1) {
  std::string text = "\x93NUMPY";
  text += static_cast<char>(major);
  text += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) text += static_cast<char>(header.size() >> (8 * i) & 0xff);
  text += header;
  std::vector<std::byte> file = to_bytes(text);
  for (std::size_t i = 0; i < elements; ++i) file.push_back(static_cast<std::byte>(i));
  return file;
}

Code code_of(std::string_view header, std::size_t elements) {
  return read_npy(npy_of(header, elements)).status().code();
}

std::shared_ptr<const MappedFile> fixture(const char* name) {
  Result<std::shared_ptr<const MappedFile>> file = MappedFile::open(std::string(AOQ_TEST_DATA) + "/formats/" + name);
  REQUIRE(file.ok());
  return *file;
}

TEST_CASE("every type numpy has goes out and in") {
  for (DType d : {DType::boolean, DType::u8, DType::u16, DType::u32, DType::u64, DType::i8, DType::i16, DType::i32,
                  DType::i64, DType::f16, DType::f32, DType::f64}) {
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {3}, {2, 5}, {0, 4}, {1, 1, 2, 3}}) {
      Tensor t = Tensor::make(d, shape).value();
      for (std::int64_t i = 0; i < t.element_count(); ++i) {
        store_from_double(d, t.mutable_bytes().data(), i, static_cast<double>(i));
      }
      Result<std::vector<std::byte>> file = write_npy(t);
      REQUIRE(file.ok());
      CHECK((file->size() - static_cast<std::size_t>(t.byte_size())) % 64 == 0);
      Result<Tensor> back = read_npy(*file);
      REQUIRE(back.ok());
      CHECK(back->dtype() == d);
      CHECK(back->shape() == shape);
      CHECK(std::equal(t.bytes().begin(), t.bytes().end(), back->bytes().begin(), back->bytes().end()));
    }
  }
  CHECK(npy_header({DType::u4, {}, nullptr}).status().code() == Code::unsupported);
}

TEST_CASE("headers in other spellings") {
  CHECK(code_of("{\"shape\":(2,2),'descr':'<u2','fortran_order':False}\n", 8) == Code::ok);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }", 3) == Code::ok);
  CHECK(code_of("{'descr': '>u1', 'fortran_order': False, 'shape': (), }", 1) == Code::ok);
  CHECK(read_npy(npy_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", 3, 2)).ok());
  CHECK(read_npy(npy_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", 3, 3)).ok());
  CHECK(read_npy(npy_of("{}", 0, 4)).status().code() == Code::unsupported);
}

TEST_CASE("headers that are refused") {
  CHECK(code_of("", 0) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': ()}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (), 'x': 1}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': ()} x", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': 0, 'shape': ()}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}", 1) == Code::invalid_data);
  CHECK(code_of("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", 8) ==
        Code::invalid_data);
  CHECK(code_of("{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}", 0) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", 4) == Code::invalid_data);
  CHECK(code_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", 2) == Code::invalid_data);
  CHECK(code_of("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", 3) == Code::invalid_data);
  CHECK(code_of("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8) == Code::unsupported);
  CHECK(code_of("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4) == Code::unsupported);
  CHECK(code_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4) == Code::unsupported);
  CHECK(code_of("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8) == Code::unsupported);
}

TEST_CASE("Fortran order is put into C order") {
  Result<Tensor> t = read_npy(fixture("fortran.npy")->bytes());
  REQUIRE(t.ok());
  CHECK(t->shape() == std::vector<std::int64_t>{2, 3, 4});
  for (std::int32_t i = 0; i < 24; ++i) CHECK(t->as<std::int32_t>()[i] == i);
}

TEST_CASE("numpy's own archives, stored and compressed") {
  const std::shared_ptr<const MappedFile> compressed = fixture("compressed.npz");
  Result<NpzReader> npz = NpzReader::open(compressed->bytes());
  REQUIRE(npz.ok());
  CHECK(npz->names() == std::vector<std::string>{"a", "b", "c", "/x/y"});
  Tensor a = npz->read("a").value();
  CHECK(a.shape() == std::vector<std::int64_t>{20, 30});
  for (int i = 0; i < 600; ++i) CHECK(a.as<float>()[i] == static_cast<float>(i % 7));
  CHECK(npz->read("b").value().as<std::int64_t>()[1] == 2);
  CHECK(npz->read("c").value().shape().empty());
  CHECK(npz->read("/x/y").value().shape() == std::vector<std::int64_t>{0, 3});
  CHECK(npz->read("d").status().code() == Code::not_found);
  const std::shared_ptr<const MappedFile> stored = fixture("stored.npz");
  Result<NpzReader> in_place = NpzReader::open(stored->bytes(), stored);
  REQUIRE(in_place.ok());
  Tensor h = in_place->read("h").value();
  CHECK(load_as_double(DType::f16, h.bytes().data(), 2) == 65504);
}

TEST_CASE("an archive goes out and in, in place when it has an owner") {
  std::vector<NamedTensor> arrays;
  arrays.push_back({"/model/out", Tensor::from_values<float>(DType::f32, {3}, std::array{1.f, 2.f, 3.f}).value()});
  arrays.push_back({"n", Tensor::from_values<std::int64_t>(DType::i64, {}, std::array<std::int64_t, 1>{7}).value()});
  auto file = std::make_shared<std::vector<std::byte>>();
  const ZipSink sink = [&](std::span<const std::byte> bytes) {
    file->insert(file->end(), bytes.begin(), bytes.end());
    return Status();
  };
  REQUIRE(write_npz(arrays, sink).ok());
  Tensor out;
  {
    Result<NpzReader> npz = NpzReader::open(*file, file);
    REQUIRE(npz.ok());
    Result<std::vector<NamedTensor>> all = npz->read_all();
    REQUIRE(all.ok());
    CHECK((*all)[1].tensor.as<std::int64_t>()[0] == 7);
    out = (*all)[0].tensor;
    CHECK(out.bytes().data() >= file->data());
    CHECK(out.bytes().data() < file->data() + file->size());
  }
  file.reset();
  CHECK(out.as<float>()[2] == 3.f);
}

TEST_CASE("truncated and damaged arrays and archives") {
  const ReadBytes read_array = [](std::span<const std::byte> bytes) { return read_npy(bytes).status(); };
  const ReadBytes read_archive = [](std::span<const std::byte> bytes) -> Status {
    AOQ_ASSIGN(const NpzReader npz, NpzReader::open(bytes));
    return npz.read_all().status();
  };
  const std::shared_ptr<const MappedFile> array = fixture("fortran.npy");
  refuse_truncations(array->bytes(), read_array);
  survive_damage(array->bytes(), read_array, 20000);
  for (const char* name : {"stored.npz", "compressed.npz"}) {
    const std::shared_ptr<const MappedFile> archive = fixture(name);
    refuse_truncations(archive->bytes(), read_archive);
    survive_damage(archive->bytes(), read_archive, 5000);
  }
}

}  // namespace
}  // namespace aoq
