// Every field of the metadata at its extremes. The fields come from the schema itself, so a new one is tried too.
#include <doctest/doctest.h>
#include <flatbuffers/reflection_generated.h>

#include <map>

#include "formats/aoq/aoq.h"
#include "formats/io/file.h"
#include "tests/formats/aoq_patch.h"
#include "tests/formats/aoq_sample.h"
#include "tests/formats/mutate.h"

namespace aoq {
namespace {

using reflection::BaseType;
using test::PatchedAoq;
using test::with_extremes;

class FieldMutator {
 public:
  FieldMutator(const reflection::Schema& schema, PatchedAoq& file) : schema_(schema), file_(file) {}

  void run() {
    for (const reflection::Field* field : *schema_.root_table()->fields()) table_field(*field);
  }

  int mutations() const { return mutations_; }
  // Of the table and of its structs, such as "Node.op".
  const std::map<std::string, int>& fields() const { return fields_; }

 private:
  template <class T>
  void number(const std::string& name, std::byte* place, std::uint64_t count) {
    with_extremes<T>(file_, place, count, [&](bool is_old) {
      CAPTURE(name);
      const Status status = read_aoq(file_.bytes(), nullptr).status();
      check_typed(status);
      check_typed(verify_aoq(file_.bytes()));
      check_typed(read_aoq_summary(file_.bytes()).status());
      if (is_old) CHECK(status.ok());
      ++mutations_;
    });
    ++fields_[name];
  }

  void number(const std::string& name, BaseType type, std::byte* place, std::uint64_t count) {
    switch (type) {
      case reflection::UInt:
        return number<std::uint32_t>(name, place, count);
      case reflection::Long:
      case reflection::ULong:
      case reflection::Double:
        return number<std::uint64_t>(name, place, count);
      default:
        FAIL("field " << name << " has a type this test does not know: " << static_cast<int>(type));
    }
  }

  static std::uint64_t size_of(BaseType type) { return type == reflection::UInt || type == reflection::String ? 4 : 8; }

  void table_field(const reflection::Field& field) {
    auto& table = reinterpret_cast<flatbuffers::Table&>(file_.model());
    const std::string name = field.name()->str();
    const BaseType type = field.type()->base_type();
    // Where the field lies, as the table says.
    auto* vtable = const_cast<std::uint8_t*>(table.GetVTable());
    number<std::uint16_t>(name + " (position)", reinterpret_cast<std::byte*>(vtable + field.offset()), 0);
    auto* place = reinterpret_cast<std::byte*>(table.GetAddressOf(field.offset()));
    if (place == nullptr) return;  // a number at its default
    if (type != reflection::Vector && type != reflection::String) return number(name, type, place, 0);
    number<std::uint32_t>(name + " (offset)", place, file_.bytes().size());
    flatbuffers::uoffset_t offset;
    std::memcpy(&offset, place, sizeof offset);
    std::byte* vector = place + offset;
    std::uint32_t size;
    std::memcpy(&size, vector, sizeof size);
    number<std::uint32_t>(name + " (size)", vector, size);
    if (type == reflection::Vector) elements(name, *field.type(), vector + 4, size);
  }

  void elements(const std::string& name, const reflection::Type& type, std::byte* first, std::uint32_t size) {
    if (type.element() != reflection::Obj) {
      for (std::uint32_t i = 0; i < size; ++i) {
        const BaseType element = type.element() == reflection::String ? reflection::UInt : type.element();
        number(name, element, first + i * size_of(type.element()), size);
      }
      return;
    }
    const reflection::Object& object = *schema_.objects()->Get(static_cast<flatbuffers::uoffset_t>(type.index()));
    REQUIRE(object.is_struct());
    for (std::uint32_t i = 0; i < size; ++i) {
      for (const reflection::Field* field : *object.fields()) {
        number(object.name()->str() + "." + field->name()->str(), field->type()->base_type(),
               first + i * static_cast<std::uint32_t>(object.bytesize()) + field->offset(), size);
      }
    }
  }

  const reflection::Schema& schema_;
  PatchedAoq& file_;
  int mutations_ = 0;
  std::map<std::string, int> fields_;
};

TEST_CASE("[class 3] every field of the metadata at its extremes") {
  const std::shared_ptr<const MappedFile> binary_schema = MappedFile::open(AOQ_BINARY_SCHEMA).value();
  const reflection::Schema& schema = *reflection::GetSchema(binary_schema->bytes().data());
  AoqProvenance provenance;
  provenance.entries = {{"recipe", "default"}};
  provenance.json = "{}";
  PatchedAoq file(write_aoq(test::sample_graph(), provenance).value());
  FieldMutator mutator(schema, file);
  mutator.run();
  CHECK(read_aoq(file.bytes(), nullptr).ok());
  // Nothing was passed over: each field of the table, and each of every struct that the table holds.
  std::size_t fields = 0;
  for (const reflection::Field* field : *schema.root_table()->fields()) {
    fields += mutator.fields().count(field->name()->str() + " (position)");
  }
  CHECK(fields == schema.root_table()->fields()->size());
  for (const reflection::Object* object : *schema.objects()) {
    for (const reflection::Field* field : *object->fields()) {
      if (!object->is_struct()) continue;
      CAPTURE(object->name()->str() + "." + field->name()->str());
      CHECK(mutator.fields().contains(object->name()->str() + "." + field->name()->str()));
    }
  }
  CHECK(mutator.mutations() > 1000);
}

}  // namespace
}  // namespace aoq
