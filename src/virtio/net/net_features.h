// Feature bits of a network card (virtio 1.2 §5.1.3).
#pragma once

#include <cstdint>

namespace limen::virtio::net_feature {

constexpr uint64_t bit(unsigned number) { return uint64_t{1} << number; }
inline constexpr uint64_t kCsum = bit(0), kGuestCsum = bit(1), kCtrlGuestOffloads = bit(2),
                          kMtu = bit(3), kMac = bit(5), kGuestTso4 = bit(7), kGuestTso6 = bit(8),
                          kGuestEcn = bit(9), kGuestUfo = bit(10), kHostTso4 = bit(11),
                          kHostTso6 = bit(12), kHostEcn = bit(13), kHostUfo = bit(14),
                          kMergeable = bit(15), kStatus = bit(16), kCtrlVq = bit(17),
                          kCtrlRx = bit(18), kCtrlVlan = bit(19), kCtrlRxExtra = bit(20),
                          kGuestAnnounce = bit(21), kMultiqueue = bit(22), kCtrlMacAddr = bit(23),
                          kSpeedDuplex = bit(63);
inline constexpr uint64_t kGuestOffloads =
    kGuestCsum | kGuestTso4 | kGuestTso6 | kGuestEcn | kGuestUfo;

}  // namespace limen::virtio::net_feature
