// Package interop holds stunnel against the other implementations of
// WireGuard's protocol (https://www.wireguard.com/papers/wireguard.pdf) and of
// its configuration interface (https://www.wireguard.com/xplatform/). It is a
// module of its own, so that nothing of it is a dependency of the product.
//
// In process, wireguard-go's Device is the other end of a transport.Tunnel:
// both over test/memnet and inside a testing/synctest bubble, where hours take
// milliseconds. What is a matter of timing is not held to a number but to what
// two wireguard-go say to each other in the same scenario.
//
// As root, `stunnel userspace` and wireguard-go run side by side in namespaces
// of their own, wg(8) and wgctrl give both the same orders, and what they tell
// of themselves afterwards is compared.
package interop
