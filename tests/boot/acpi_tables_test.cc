#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "boot/acpi/loader.h"
#include "boot/acpi/tables.h"
#include "boot/little_endian.h"
#include "boot/memory_map.h"

namespace limen::boot::acpi {
namespace {

constexpr GuestPhysicalAddress kStart{0x700'0000};
constexpr Board kFullBoard{
    .vcpus = 4, .hpet = true, .serial_ports = 2, .suspend_to_ram = true, .suspend_to_disk = true};

/// The other board, as firmware has set it up.
Board pc_board() {
  return {.chipset = Chipset::kI440fx,
          .pm_base = 0xB000,
          .memory_windows = {{0xC000'0000, 0xFEBF'FFFF}},
          .high_window = {0x1'8000'0000, 0x1'FFFF'FFFF},
          .ecam_base = 0,
          .fw_cfg = true,
          .vga = true,
          .vcpus = 2,
          .hpet = true,
          .serial_ports = 1,
          .panic_port = 0x505};
}

unsigned byte_sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0u,
                         [](unsigned sum, std::byte b) { return sum + unsigned(b); }) &
         0xFF;
}

const Table& table(const std::vector<Table>& tables, std::string_view signature) {
  const auto found = std::ranges::find(tables, signature, &Table::signature);
  EXPECT_NE(found, tables.end()) << signature;
  return *found;
}

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class AcpiCompiler : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v iasl >/dev/null 2>&1") != 0) GTEST_SKIP() << "iasl not installed";
    std::string pattern = (std::filesystem::temp_directory_path() / "limen-acpi-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  /// Runs iasl in the folder and returns what it said.
  std::string iasl(const std::string& arguments) {
    const std::string command =
        "cd '" + folder_.string() + "' && iasl " + arguments + " >said.txt 2>&1";
    status_ = std::system(command.c_str());
    return slurp(folder_ / "said.txt");
  }
  void store(const Table& table) {
    std::ofstream(folder_ / (table.signature + ".aml"), std::ios::binary)
        .write(reinterpret_cast<const char*>(table.bytes.data()),
               static_cast<std::streamsize>(table.bytes.size()));
  }
  std::filesystem::path folder_;
  int status_ = 0;
};

TEST_F(AcpiCompiler, DisassemblesEveryTableWithoutAWarning) {
  auto all = build_tables(kFullBoard, kStart);
  for (auto& each : build_tables(pc_board(), kStart)) all.push_back(std::move(each));
  for (const auto& each : all) {
    SCOPED_TRACE(each.signature);
    store(each);
    const std::string said = iasl("-d " + each.signature + ".aml");
    EXPECT_EQ(status_, 0) << said;
    EXPECT_EQ(said.find("Warning"), std::string::npos) << said;
    EXPECT_EQ(said.find("Error"), std::string::npos) << said;
    const std::string source = slurp(folder_ / (each.signature + ".dsl"));
    EXPECT_NE(source.find(each.signature), std::string::npos);
    for (const char* bad : {"Warning", "Error", "Invalid", "Unknown", "**"})
      EXPECT_EQ(source.find(bad), std::string::npos) << bad << "\n" << source;
  }
}

TEST_F(AcpiCompiler, RecompilesEveryTableToTheSameBytes) {
  auto all = build_tables(kFullBoard, kStart);
  for (auto& each : build_tables(pc_board(), kStart)) all.push_back(std::move(each));
  for (const auto& each : all) {
    SCOPED_TRACE(each.signature);
    store(each);
    iasl("-d " + each.signature + ".aml");
    const std::string said = iasl("-oa -p again " + each.signature + ".dsl");
    EXPECT_EQ(status_, 0) << said;
    if (each.signature == "DSDT") {
      EXPECT_NE(said.find(" 0 Errors, 0 Warnings,"), std::string::npos) << said;
    }
    const std::string again = slurp(folder_ / "again.aml");
    ASSERT_EQ(again.size(), each.bytes.size()) << said;
    for (size_t i = 0; i < again.size(); ++i) {
      // The compiler signs the header: checksum, creator id and revision.
      if (each.signature != "FACS" && (i == 9 || (i >= 28 && i < 36))) continue;
      ASSERT_EQ(std::byte(again[i]), each.bytes[i]) << "byte " << i << "\n" << said;
    }
  }
}

TEST(AcpiTables, SumToZeroAndHaveTheLengthInTheirHeader) {
  for (const auto& each : build_tables(kFullBoard, kStart)) {
    SCOPED_TRACE(each.signature);
    EXPECT_EQ(field<uint32_t>(each.bytes, 4), each.bytes.size());
    if (each.signature != "FACS") {
      EXPECT_EQ(byte_sum(each.bytes), 0u);
    }
  }
}

TEST(AcpiTables, RootPointerLeadsToEveryTable) {
  const auto tables = build_tables(kFullBoard, kStart);
  const auto rsdp = build_rsdp(tables);
  EXPECT_EQ(byte_sum(std::span(rsdp).first(20)), 0u);
  EXPECT_EQ(byte_sum(rsdp), 0u);
  EXPECT_EQ(field<uint64_t>(rsdp, 24), table(tables, "XSDT").address.value);
  EXPECT_EQ(field<uint32_t>(rsdp, 16), table(tables, "RSDT").address.value);
  const auto& xsdt = table(tables, "XSDT").bytes;
  const auto& rsdt = table(tables, "RSDT").bytes;
  const std::vector<std::string> listed = {"FACP", "APIC", "MCFG", "HPET"};
  ASSERT_EQ(xsdt.size(), 36 + 8 * listed.size());
  ASSERT_EQ(rsdt.size(), 36 + 4 * listed.size());
  for (size_t i = 0; i < listed.size(); ++i) {
    EXPECT_EQ(field<uint64_t>(xsdt, 36 + 8 * i), table(tables, listed[i]).address.value);
    EXPECT_EQ(field<uint32_t>(rsdt, 36 + 4 * i), table(tables, listed[i]).address.value);
  }
  const auto& fadt = table(tables, "FACP").bytes;
  EXPECT_EQ(field<uint64_t>(fadt, 140), table(tables, "DSDT").address.value);
  EXPECT_EQ(field<uint32_t>(fadt, 36), table(tables, "FACS").address.value);
}

/// Does what firmware does with the loader's script; `tables` and `rsdp` lie at these addresses
/// then.
void run_script(LoaderFiles& files, uint64_t tables_at) {
  const auto file = [&](size_t at) -> std::vector<std::byte>& {
    return std::string_view(reinterpret_cast<const char*>(&files.script[at])) == kTablesFile
               ? files.tables
               : files.rsdp;
  };
  for (size_t at = 0; at < files.script.size(); at += 128) {
    const std::span entry(&files.script[at], 128);
    switch (field<uint32_t>(entry, 0)) {
      case 1:
        break;
      case 2: {
        const auto offset = field<uint32_t>(entry, 116);
        auto& into = file(at + 4);
        if (field<uint8_t>(entry, 120) == 4)
          set_field(std::span(into), offset,
                    static_cast<uint32_t>(field<uint32_t>(into, offset) + tables_at));
        else
          set_field(std::span(into), offset, field<uint64_t>(into, offset) + tables_at);
        break;
      }
      case 3: {
        auto& into = file(at + 4);
        const auto part =
            std::span(into).subspan(field<uint32_t>(entry, 64), field<uint32_t>(entry, 68));
        into[field<uint32_t>(entry, 60)] = static_cast<std::byte>(0u - byte_sum(part));
        break;
      }
      default:
        FAIL() << "command " << field<uint32_t>(entry, 0);
    }
  }
}

TEST(AcpiLoader, LinksTheSameTablesThatAreInstalledDirectly) {
  for (const auto& board : {kFullBoard, pc_board()}) {
    auto files = build_loader_files(board);
    run_script(files, kStart.value);
    const auto tables = build_tables(board, kStart);
    for (const auto& each : tables) {
      SCOPED_TRACE(each.signature);
      const auto at = each.address - kStart;
      ASSERT_LE(at + each.bytes.size(), files.tables.size());
      EXPECT_TRUE(
          std::ranges::equal(each.bytes, std::span(files.tables).subspan(at, each.bytes.size())));
    }
    EXPECT_EQ(files.rsdp, build_rsdp(tables));
  }
}

TEST(AcpiTables, SleepingStatesAreThoseOfTheBoard) {
  // Name (_S3_, Package (4) { One, One, Zero, Zero }) and the like (ACPI 6.5 7.4.2)
  const std::string suspend("\x08_S3_\x12\x06\x04\x01\x01\x00\x00", 12);
  const std::string hibernate("\x08_S4_\x12\x08\x04\x0A\x02\x0A\x02\x00\x00", 14);
  constexpr uint32_t kNoFixedRtcWake = 1u << 6;
  for (const bool there : {true, false}) {
    const auto tables = build_tables({.suspend_to_ram = there, .suspend_to_disk = !there}, kStart);
    const auto& dsdt = table(tables, "DSDT").bytes;
    const std::string_view code(reinterpret_cast<const char*>(dsdt.data()), dsdt.size());
    EXPECT_EQ(code.find(suspend) != code.npos, there);
    EXPECT_EQ(code.find(hibernate) != code.npos, !there);
    EXPECT_NE(code.find("_S5_"), code.npos);
    const auto flags = field<uint32_t>(table(tables, "FACP").bytes, 112);
    EXPECT_EQ((flags & kNoFixedRtcWake) == 0, there);
  }
}

TEST(AcpiTables, HpetIsDescribedOnlyWhenPresent) {
  const auto tables = build_tables({.hpet = false}, kStart);
  EXPECT_TRUE(std::ranges::none_of(tables, [](auto& t) { return t.signature == "HPET"; }));
}

TEST(AcpiTables, MadtHasOneLocalApicPerProcessorAndX2ApicsFromId255) {
  const auto tables = build_tables({.vcpus = 257}, kStart);
  const auto& madt = table(tables, "APIC").bytes;
  unsigned local = 0, x2 = 0;
  for (size_t at = 44; at < madt.size(); at += field<uint8_t>(madt, at + 1)) {
    ASSERT_NE(field<uint8_t>(madt, at + 1), 0);
    if (field<uint8_t>(madt, at) == 0) {
      EXPECT_EQ(field<uint8_t>(madt, at + 3), local++);
    }
    if (field<uint8_t>(madt, at) == 9) {
      EXPECT_EQ(field<uint32_t>(madt, at + 4), 255 + x2++);
    }
  }
  EXPECT_EQ(local, 255u);
  EXPECT_EQ(x2, 2u);
}

TEST(AcpiTables, InstallPutsThemWhereTheMemoryMapSaysAcpi) {
  const auto layout = ram_layout(uint64_t{64} << 20).value();
  const auto memory = memory::GuestMemory::create(layout).value();
  const auto installed = install_tables(*memory, kFullBoard).value();
  std::vector<std::byte> rsdp(36);
  ASSERT_TRUE(memory->read(installed.rsdp, rsdp));
  EXPECT_EQ(byte_sum(rsdp), 0u);
  EXPECT_EQ(installed.rsdp.value % 16, 0u);
  std::vector<std::byte> xsdt(36);
  ASSERT_TRUE(memory->read({field<uint64_t>(rsdp, 24)}, xsdt));
  EXPECT_EQ(std::memcmp(xsdt.data(), "XSDT", 4), 0);
  const auto end = installed.tables + installed.size;
  for (const auto& entry : e820_map(*memory)) {
    const bool overlaps = installed.tables < entry.start + entry.size && entry.start < end;
    const bool for_acpi =
        entry.type == E820Type::kAcpiNvs || entry.type == E820Type::kAcpiReclaimable;
    if (overlaps) {
      EXPECT_TRUE(for_acpi);
    }
  }
}

TEST(AcpiTables, TooManyProcessorsForTheRegionIsAnError) {
  const auto layout = ram_layout(uint64_t{64} << 20).value();
  const auto memory = memory::GuestMemory::create(layout).value();
  const auto installed = install_tables(*memory, {.vcpus = 4000});
  ASSERT_FALSE(installed);
  EXPECT_NE(installed.error().message.find("4000 processors"), std::string::npos);
}

}  // namespace
}  // namespace limen::boot::acpi
