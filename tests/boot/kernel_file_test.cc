// Kernels and initrds as files: what load_kernel() says about those it cannot use.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "boot/kernel_images.h"

namespace limen::boot {
namespace {

class KernelFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "limen-boot-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const Bytes& bytes) const {
    const auto path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  /// The error of loading, checked to name `culprit`.
  static std::string error(const std::string& kernel, const std::string& initrd,
                           const std::string& culprit) {
    const auto memory = make_memory(16 * kMebibyte);
    auto request = request_for(*memory);
    request.kernel = kernel;
    request.initrd = initrd;
    const auto guest = load_kernel(*memory, request);
    if (guest) return "";
    EXPECT_NE(guest.error().message.find("'" + culprit + "'"), std::string::npos)
        << guest.error().message;
    return guest.error().message;
  }
  std::filesystem::path folder_;
};

TEST_F(KernelFile, LoadsAKernelAndItsInitrd) {
  EXPECT_EQ(error(file("kernel", make_bzimage()), file("initrd", pattern(100, 1)), ""), "");
}

TEST_F(KernelFile, SaysWhyAFileCannotBeUsed) {
  const auto kernel = file("kernel", make_bzimage());
  const auto missing = (folder_ / "missing").string();
  const auto empty = file("empty", {});
  const auto large = file("large", {});
  std::filesystem::resize_file(large, 17 * kMebibyte);
  const auto pipe = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::pair<std::string, const char*> cases[] = {
      {missing, "No such file or directory"},
      {folder_.string(), "is a directory, expected a file"},
      {empty, "is empty: 0 bytes"},
      {large, "of 17825792 bytes does not fit in 16777216 bytes of guest memory"},
      {pipe, "is not a regular file"},
  };
  for (const auto& [path, reason] : cases) {
    EXPECT_NE(error(path, "", path).find(reason), std::string::npos) << error(path, "", path);
    EXPECT_NE(error(kernel, path, path).find(reason), std::string::npos)
        << error(kernel, path, path);
  }
}

TEST_F(KernelFile, UnreadableFileIsRefused) {
  const auto kernel = file("kernel", make_bzimage());
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(kernel.c_str(), 0), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) ::_exit(2);
    ::_exit(error(kernel, "", kernel).find("Permission denied") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(KernelFile, TextIsNoKernelAndTheErrorShowsWhatWasFound) {
  Bytes text(2000, std::byte{'x'});
  const auto path = file("text", text);
  EXPECT_NE(error(path, "", path).find("first bytes are 78 78 78 78, expected 7f 45 4c 46 (ELF)"),
            std::string::npos);
  text.resize(10);
  const auto brief = file("brief", text);
  EXPECT_NE(error(brief, "", brief).find("truncated or not a kernel: 10 bytes"), std::string::npos);
}

TEST_F(KernelFile, MultibootModulesAreAListWithArgumentsAndDoubledCommas) {
  auto text = make_multiboot_header(0);
  text.resize(64);
  const auto kernel =
      file("kernel", make_elf(false, 0x40'0000, {{.address = 0x40'0000, .bytes = text}}));
  const auto first = file("first", pattern(10, 1));
  const auto second = file("second,half", pattern(20, 2));
  const auto memory = make_memory(16 * kMebibyte);
  auto request = request_for(*memory);
  request.kernel = kernel;
  request.initrd = first + " a b," + (folder_ / "second,,half").string();
  const auto guest = load_kernel(*memory, request);
  ASSERT_TRUE(guest) << guest.error().message;
  const uint64_t info = guest->cpu.gpr[x86::kRbx];
  ASSERT_EQ(peek<uint32_t>(*memory, info + 20), 2u);
  const uint64_t list = peek<uint32_t>(*memory, info + 24);
  EXPECT_EQ(peek_string(*memory, peek<uint32_t>(*memory, list + 8)), first + " a b");
  EXPECT_EQ(peek_string(*memory, peek<uint32_t>(*memory, list + 24)), second);
  EXPECT_EQ(peek_bytes(*memory, peek<uint32_t>(*memory, list + 16), 20), pattern(20, 2));
}

}  // namespace
}  // namespace limen::boot
