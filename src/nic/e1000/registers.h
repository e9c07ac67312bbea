// Registers and descriptors of the 82540EM (Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers
// Software Developer's Manual, 317453: "SDM" in this folder; chapters 3 and 13).
#pragma once

#include <cstdint>

namespace limen::nic::e1000 {

/// Offsets in BAR 0 (SDM table 13-2).
enum Register : uint32_t {
  kCtrl = 0x0000,
  kStatus = 0x0008,
  kEecd = 0x0010,
  kEerd = 0x0014,
  kCtrlExt = 0x0018,
  kMdic = 0x0020,
  kVet = 0x0038,
  kIcr = 0x00C0,
  kItr = 0x00C4,
  kIcs = 0x00C8,
  kIms = 0x00D0,
  kImc = 0x00D8,
  kRctl = 0x0100,
  kTctl = 0x0400,
  kPba = 0x1000,
  kRdbal = 0x2800,
  kRdbah = 0x2804,
  kRdlen = 0x2808,
  kRdh = 0x2810,
  kRdt = 0x2818,
  kRdtr = 0x2820,
  kTdbal = 0x3800,
  kTdbah = 0x3804,
  kTdlen = 0x3808,
  kTdh = 0x3810,
  kTdt = 0x3818,
  kStatistics = 0x4000,  ///< To 40FC; cleared by reading (SDM 13.7).
  kMpc = 0x4010,         ///< Missed packets.
  kGprc = 0x4074,
  kBprc = 0x4078,
  kMprc = 0x407C,
  kGptc = 0x4080,
  kGorcl = 0x4088,
  kGotcl = 0x4090,
  kTorl = 0x40C0,
  kTotl = 0x40C8,
  kTpr = 0x40D0,
  kTpt = 0x40D4,
  kMptc = 0x40F0,
  kBptc = 0x40F4,
  kTsctc = 0x40F8,
  kStatisticsEnd = 0x4100,
  kRxcsum = 0x5000,
  kMta = 0x5200,   ///< 128 words: a bit per hash of a multicast address.
  kRal = 0x5400,   ///< 16 pairs: addresses that are received.
  kVfta = 0x5600,  ///< 128 words: a bit per VLAN.
  kRegistersEnd = 0x8000,
};

namespace ctrl {
inline constexpr uint32_t kFullDuplex = 1u << 0, kSetLinkUp = 1u << 6, kSpeed1000 = 2u << 8,
                          kReset = 1u << 26, kVlanMode = 1u << 30, kPhyReset = 1u << 31;
}
namespace status {
inline constexpr uint32_t kFullDuplex = 1u << 0, kLinkUp = 1u << 1, kSpeed1000 = 2u << 6;
}
/// Causes in ICR, ICS, IMS and IMC (SDM 13.4.17).
namespace cause {
inline constexpr uint32_t kTransmitted = 1u << 0, kTransmitEmpty = 1u << 1, kLinkChange = 1u << 2,
                          kReceiveLow = 1u << 4, kReceiveOverrun = 1u << 6, kReceived = 1u << 7,
                          kMdioDone = 1u << 9, kAsserted = 1u << 31;
inline constexpr uint32_t kAll = 0x0001'FFFF;
}  // namespace cause
namespace rctl {
inline constexpr uint32_t kEnable = 1u << 1, kUnicastAll = 1u << 3, kMulticastAll = 1u << 4,
                          kLongPackets = 1u << 5, kBroadcast = 1u << 15, kVlanFilter = 1u << 18,
                          kSizeExtension = 1u << 25, kStripCrc = 1u << 26;
}
namespace tctl {
inline constexpr uint32_t kEnable = 1u << 1;
}

/// Both kinds of descriptor are 16 bytes (SDM 3.2.3, 3.3.3).
inline constexpr uint32_t kDescriptorBytes = 16;

struct ReceiveDescriptor {
  uint64_t address;
  uint16_t length;
  uint16_t checksum;
  uint8_t status;
  uint8_t errors;
  uint16_t special;
};
static_assert(sizeof(ReceiveDescriptor) == kDescriptorBytes);
namespace receive_status {
inline constexpr uint8_t kDone = 0x01, kEndOfPacket = 0x02, kIgnoreChecksum = 0x04, kVlan = 0x08,
                         kTcpChecked = 0x20, kIpChecked = 0x40, kInexact = 0x80;
}

/// Legacy and data descriptors; in a context descriptor the first half holds offsets.
struct TransmitDescriptor {
  uint64_t address;
  uint32_t length_command;  ///< Length, type or checksum offset, command in the top byte.
  uint8_t status;
  uint8_t options;   ///< POPTS; legacy: where the checksum starts. Context: header length.
  uint16_t special;  ///< VLAN tag; context: segment size.
};
static_assert(sizeof(TransmitDescriptor) == kDescriptorBytes);
namespace transmit_command {
inline constexpr uint8_t kEndOfPacket = 0x01, kInsertChecksum = 0x04, kSegment = 0x04,
                         kReportStatus = 0x08, kReportSent = 0x10, kExtended = 0x20, kVlan = 0x40;
// A context descriptor's own.
inline constexpr uint8_t kContextTcp = 0x01, kContextIp4 = 0x02;
}  // namespace transmit_command
inline constexpr uint8_t kInsertIpChecksum = 0x01, kInsertTransportChecksum = 0x02;  // POPTS
inline constexpr uint8_t kDescriptorDone = 0x01;

}  // namespace limen::nic::e1000
