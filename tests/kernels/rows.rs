//! A row's bits do not depend on the rows beside it.

use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::Entry;
use crate::cases::expect::same_bits;
use crate::cases::matvec::Product;
use crate::cases::stored::Stored;
use crate::trials::run;

pub(crate) fn a_row_has_the_same_bits_alone(stored: Stored) -> Result<(), Failed> {
    let cpu = Device::cpu(0);
    let among = Product::new(stored, 8, 37, stored.row_length(600), 17);
    let all = run(&among, &cpu, Entry::Device(&cpu))?;
    for (row, together) in all[0].chunks_exact(4 * among.n).enumerate() {
        let x = among.x[row * among.k..][..among.k].to_vec();
        let alone = Product { together: 1, m: 1, w: among.w.clone(), x, ..among };
        same_bits(&run(&alone, &cpu, Entry::Device(&cpu))?[0], together)
            .map_err(|error| format!("row {row}: {error}"))?;
    }
    Ok(())
}
