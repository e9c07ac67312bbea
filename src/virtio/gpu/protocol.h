// What a driver and a GPU device say to each other (virtio 1.2 §5.7.6); all little-endian.
#pragma once

#include <array>
#include <cstdint>

namespace limen::virtio::gpu {

enum class Command : uint32_t {
  kGetDisplayInfo = 0x100,
  kResourceCreate2d,
  kResourceUnref,
  kSetScanout,
  kResourceFlush,
  kTransferToHost2d,
  kResourceAttachBacking,
  kResourceDetachBacking,
  kGetCapsetInfo,
  kGetCapset,
  kGetEdid,
  kUpdateCursor = 0x300,
  kMoveCursor,
};
enum class Response : uint32_t {
  kOkNoData = 0x1100,
  kOkDisplayInfo,
  kOkEdid = 0x1104,
  kErrorUnspecified = 0x1200,
  kErrorOutOfMemory,
  kErrorInvalidScanoutId,
  kErrorInvalidResourceId,
  kErrorInvalidContextId,
  kErrorInvalidParameter,
};
inline constexpr uint32_t kFlagFence = 1;

struct Header {
  uint32_t type = 0, flags = 0;
  uint64_t fence = 0;
  uint32_t context = 0;
  uint32_t ring = 0;  ///< A byte, and padding.
};
static_assert(sizeof(Header) == 24);

struct Area {
  uint32_t x = 0, y = 0, width = 0, height = 0;
};
inline constexpr unsigned kMostScanouts = 16;

struct DisplayInfo {
  Header header;
  struct Mode {
    Area area;
    uint32_t enabled = 0, flags = 0;
  };
  std::array<Mode, kMostScanouts> modes{};
};
static_assert(sizeof(DisplayInfo) == 24 + 16 * 24);

struct GetEdid {
  Header header;
  uint32_t scanout = 0, padding = 0;
};
struct Edid {
  Header header;
  uint32_t size = 0, padding = 0;
  std::array<uint8_t, 1024> bytes{};
};
struct ResourceCreate2d {
  Header header;
  uint32_t resource = 0, format = 0, width = 0, height = 0;
};
struct ResourceUnref {
  Header header;
  uint32_t resource = 0, padding = 0;
};
struct SetScanout {
  Header header;
  Area area;
  uint32_t scanout = 0, resource = 0;
};
struct ResourceFlush {
  Header header;
  Area area;
  uint32_t resource = 0, padding = 0;
};
struct TransferToHost2d {
  Header header;
  Area area;
  uint64_t offset = 0;
  uint32_t resource = 0, padding = 0;
};
struct ResourceAttachBacking {
  Header header;
  uint32_t resource = 0, entries = 0;  ///< That many Entry follow.
  struct Entry {
    uint64_t address = 0;
    uint32_t length = 0, padding = 0;
  };
};
struct UpdateCursor {
  Header header;
  uint32_t scanout = 0, x = 0, y = 0, padding = 0;
  uint32_t resource = 0, hot_x = 0, hot_y = 0, padding2 = 0;
};

/// Which byte of a pixel has which colour; all formats have four bytes (§5.7.6.8).
struct PixelFormat {
  uint8_t red, green, blue, alpha;
};
namespace format {
inline constexpr PixelFormat kBgra{2, 1, 0, 3}, kArgb{1, 2, 3, 0}, kRgba{0, 1, 2, 3},
    kAbgr{3, 2, 1, 0};
}  // namespace format
/// Null: no such format.
constexpr const PixelFormat* pixel_format(uint32_t number) {
  switch (number) {
    case 1:
    case 2:
      return &format::kBgra;
    case 3:
    case 4:
      return &format::kArgb;
    case 67:
    case 134:
      return &format::kRgba;
    case 68:
    case 121:
      return &format::kAbgr;
    default:
      return nullptr;
  }
}
inline constexpr uint64_t kPixelBytes = 4;

}  // namespace limen::virtio::gpu
