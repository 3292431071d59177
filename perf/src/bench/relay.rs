//! `relay`: what the bed's relay itself can carry. A tunnel measured through it says something only
//! well below that.

use crate::Result;
use crate::bed::{Bed, Family, Impairment, Shape, Side};
use crate::measure::iperf::{Load, Transfer};

/// Seconds of the run, and of the warm-up before it.
const SECONDS: u32 = 3;
const WARM_UP_S: u32 = 1;

/// Prints the throughput of one TCP stream over the bare wire, through a relay that does nothing.
///
/// # Errors
/// When the bed, the relay or iperf3 fails.
pub fn run() -> Result<()> {
    let carried = ceiling_mbps(&Bed::new()?)?;
    println!("the relay carries {carried:.0} Mbit/s of TCP without a tunnel");
    Ok(())
}

/// That throughput, in Mbit/s.
///
/// # Errors
/// When the relay or iperf3 fails.
pub fn ceiling_mbps(bed: &Bed) -> Result<f64> {
    bed.shape(Shape::Unshaped)?;
    let _relay = bed.relay(Impairment::default(), 0)?;
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let (address, times) = (Side::B.wan(Family::V6), (WARM_UP_S, SECONDS));
    let carried = Transfer::start(hosts, address, Load::Tcp, times, bed.folder())?.finish()?;
    Ok(carried.mbps)
}
