//! The XDP program: decides for each packet that the interface receives, before the kernel does
//! anything with it, whether it is STOQ's, and whether it may cost a worker any time.
//!
//! ```text
//! frame ─▶ network: UDP, unfragmented? ─▶ its port in PORTS, its destination in ADDRESSES?
//!            │ no                           │ no          │ yes
//!            ▼                              ▼             ▼
//!        XDP_PASS, untouched            XDP_PASS      deny list, headers, QUIC (rules)
//!                                                         │ refused         │ taken
//!                                                         ▼                 ▼
//!                                                 XDP_DROP, counted   socket of the queue in
//!                                                                     SOCKETS, else XDP_PASS
//! ```
//!
//! It runs for each packet of the host, so the checks are in the order of what they cost, and what
//! is not STOQ's pays for two headers and a bit. A packet of an established connection takes no lock,
//! reads no clock and writes nothing but a counter of its own CPU.
//!
//! The loader (`dataplane/xdp`) owns the maps' contents. What holds here is tested there, in the kernel.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the macro of the entry point drops its comment")]

mod frame;
mod network;
mod quic;
mod state;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use stoq_xdp_types::{Config, Rule, Verdict};

use frame::Frame;
use network::Datagram;
use state::Cpu;

/// The program. In the section for multi-buffer packets: without that it cannot be attached to an
/// interface whose frames are larger than a page.
#[xdp(frags)]
pub fn stoq(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    match network::locate(frame) {
        Some(datagram) if state::is_ours(&datagram) => decide(frame, &datagram),
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn decide(frame: Frame<'_>, datagram: &Datagram) -> u32 {
    // Both maps have this entry; the kernel only wants to see that it is asked for.
    let (Some(config), Some(mut cpu)) = (state::config(), Cpu::this()) else { return XDP_PASS };
    match judge(frame, datagram, config, &mut cpu) {
        Ok(()) => cpu.redirect(frame.queue()),
        Err(Verdict::KernelJudges) => cpu.count(Verdict::KernelJudges, XDP_PASS),
        Err(verdict) => cpu.count(verdict, XDP_DROP),
    }
}

/// Applies the rules, the cheapest first.
#[inline(always)]
fn judge(
    frame: Frame<'_>,
    datagram: &Datagram,
    config: &Config,
    cpu: &mut Cpu,
) -> Result<(), Verdict> {
    if state::is_denied(datagram, config) {
        return Err(Verdict::Denied);
    }
    if !network::is_valid(frame, datagram) {
        let on = config.has(Rule::Malformed);
        return Err(if on { Verdict::BadHeader } else { Verdict::KernelJudges });
    }
    quic::judge(frame, datagram, config, cpu)
}

/// Nothing here panics; the language asks for this.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
