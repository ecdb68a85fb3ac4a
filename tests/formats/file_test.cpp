#include "formats/io/file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/formats/mutate.h"
#include "tests/support/folder.h"

namespace aoq {
namespace {

namespace fs = std::filesystem;

using test::Folder;

TEST_CASE("what is written can be mapped") {
  const Folder folder;
  const std::string path = folder / "a";
  const std::vector<std::byte> content(100000, std::byte{7});
  REQUIRE(write_file_atomically(path, content).ok());
  std::shared_ptr<const MappedFile> file = MappedFile::open(path).value();
  CHECK(std::equal(content.begin(), content.end(), file->bytes().begin(), file->bytes().end()));
  REQUIRE(write_file_atomically(path, std::span<const std::byte>()).ok());
  CHECK(file->bytes()[99999] == std::byte{7});
  CHECK(MappedFile::open(path).value()->bytes().empty());
  CHECK(folder.count() == 1);
}

TEST_CASE("pieces of any size are written in their order") {
  const Folder folder;
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  std::vector<std::byte> content(13 * kMiB + 7);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i * 2654435761u >> 11);
  const std::size_t sizes[] = {1, 2 * kMiB - 1, 2 * kMiB, 0, 3 * kMiB + 5, 10, 2 * kMiB - 15, 4 * kMiB, 7};
  const Status status = write_file_atomically(folder / "a", [&](const ByteSink& sink) -> Status {
    std::span<const std::byte> left = content;
    for (const std::size_t size : sizes) {
      AOQ_TRY(sink(left.first(size)));
      left = left.subspan(size);
    }
    return left.empty() ? Status() : error(Code::internal, "{} bytes are left", left.size());
  });
  REQUIRE(status.ok());
  const std::shared_ptr<const MappedFile> file = MappedFile::open(folder / "a").value();
  CHECK(std::equal(content.begin(), content.end(), file->bytes().begin(), file->bytes().end()));
}

TEST_CASE("a failure leaves the old file and nothing else") {
  const Folder folder;
  const std::string path = folder / "a";
  REQUIRE(write_file_atomically(path, to_bytes("old")).ok());
  const Status status = write_file_atomically(path, [](const ByteSink& sink) -> Status {
    AOQ_TRY(sink(to_bytes("half")));
    return error(Code::interrupted, "stop");
  });
  CHECK(status.code() == Code::interrupted);
  CHECK(MappedFile::open(path).value()->bytes().size() == 3);
  CHECK(folder.count() == 1);
}

TEST_CASE("a full disk is an io_error") {
  if (!fs::exists("/dev/full")) {
    MESSAGE("[SKIP] no /dev/full");
    return;
  }
  CHECK(write_file_atomically("/dev/full", to_bytes("x")).code() == Code::io_error);
  CHECK(fs::is_character_file("/dev/full"));
}

TEST_CASE("only regular files are mapped") {
  const Folder folder;
  CHECK(MappedFile::open(folder / "none").status().code() == Code::not_found);
  CHECK(MappedFile::open(folder / ".").status().code() == Code::io_error);
  CHECK(MappedFile::open("/dev/null").status().code() == Code::io_error);
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(MappedFile::open(pipe).status().code() == Code::io_error);
}

TEST_CASE("a symbolic link keeps pointing at the file that is replaced") {
  const Folder folder;
  REQUIRE(write_file_atomically(folder / "real", to_bytes("1")).ok());
  fs::create_symlink(folder / "real", folder / "link");
  REQUIRE(write_file_atomically(folder / "link", to_bytes("22")).ok());
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(fs::file_size(folder / "real") == 2);
  CHECK(write_file_atomically(folder / "no/file", to_bytes("1")).code() == Code::not_found);
  CHECK(write_file_atomically(folder / ".", to_bytes("1")).code() == Code::io_error);
}

}  // namespace
}  // namespace aoq
