//! One pass from the first byte to the last: what is there is kept, the rest is written.

use arkstream_pipeline::{Cancel, Event, Failure, Observer};

use super::{
    layout::{Layout, Piece, What},
    output::Output,
    supply::{Origin, Supply},
};

pub(super) struct Transfer<'a, 's> {
    pub(super) out: &'a mut Output<'s>,
    pub(super) supply: &'a mut Supply<'s>,
    /// Bytes that the unfinished copy had at first.
    pub(super) there: u64,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) transferred: u64,
    pub(super) reused: u64,
    pub(super) kept: u64,
}

impl Transfer<'_, '_> {
    /// Goes through all pieces; those before `pass_over` are left to the read-back.
    pub(super) fn run(&mut self, layout: &Layout<'_>, pass_over: u64) -> Result<(), Failure> {
        for piece in layout.pieces() {
            self.cancel.check()?;
            if piece.end() <= pass_over {
                self.keep(&piece, piece.len);
                continue;
            }
            let skip = pass_over.saturating_sub(piece.at);
            // Only what may be of any length is taken up in its middle.
            let skip = match piece.what {
                What::Bulk(..) => skip,
                _ => 0,
            };
            self.out.at = piece.at + skip;
            if skip == 0 && piece.end() <= self.there && self.out.keep(&piece, self.cancel)? {
                self.keep(&piece, piece.len);
            } else {
                self.cancel.check()?;
                self.keep_part(skip);
                self.fetch(&piece, skip)?;
            }
            if self.out.is_due() {
                // The system reads on while it writes.
                self.supply.announce(self.out.at);
                self.out.sync_group()?;
            }
        }
        Ok(())
    }

    fn fetch(&mut self, piece: &Piece<'_>, skip: u64) -> Result<(), Failure> {
        let (out, cancel) = (&mut *self.out, self.cancel);
        let bulk = matches!(piece.what, What::Bulk(..));
        let origin = self.supply.deliver(piece, skip, &mut |bytes| {
            out.write(bytes)?;
            if bulk {
                cancel.check()?;
                if out.is_due() {
                    out.sync_group()?;
                }
            }
            Ok(())
        })?;
        let bytes = piece.len - skip;
        match origin {
            Origin::Source => {
                self.transferred += bytes;
                if let Some(component) = piece.component() {
                    self.observer.event(&Event::Read { component, bytes });
                }
            }
            Origin::Had => {
                self.reused += bytes;
                tell_kept(self.observer, piece, bytes);
            }
        }
        Ok(())
    }

    fn keep(&mut self, piece: &Piece<'_>, bytes: u64) {
        self.keep_part(bytes);
        tell_kept(self.observer, piece, bytes);
    }

    fn keep_part(&mut self, bytes: u64) {
        self.kept += bytes;
    }
}

fn tell_kept(observer: &dyn Observer, piece: &Piece<'_>, bytes: u64) {
    if let Some(component) = piece.component() {
        observer.event(&Event::Kept {
            component,
            raw_bytes: bytes,
            stored_bytes: bytes,
        });
    }
}
